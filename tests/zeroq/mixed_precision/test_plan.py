"""A plan goes to another process as it is."""

import pickle

from zeroq.mixed_precision.plan import BitPlan


def test_a_plan_survives_pickling_whatever_its_mean():
    """The quotient of a size and its mean falls a hair below a whole number for some."""
    for parameters in range(1, 400):
        for size in (2 * parameters + 1, 3 * parameters, 8 * parameters - 1):
            plan = BitPlan({"a": 3, "b": 8}, size_bits=size, sensitivity=0.5, parameters=parameters)
            copied = pickle.loads(pickle.dumps(plan))
            assert copied == plan
            assert vars(copied) == {"size_bits": size, "sensitivity": 0.5, "average_bits": size / parameters}
