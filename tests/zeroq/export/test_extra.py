"""What is said where a package that exports need is missing."""

from importlib import import_module

import pytest

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with (
        pytest.raises(ZeroQError, match=r'^exports need not_there, .*pip install "zeroq\[export\]"'),
        imported_from_extra(),
    ):
        import_module("not_there.inside")
    with imported_from_extra():
        import onnx  # noqa: F401
