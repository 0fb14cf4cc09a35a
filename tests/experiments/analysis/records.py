"""Records to make tables and figures of."""

from experiments.analysis.cell import Table
from experiments.analysis.collection import Collection, collection
from experiments.analysis.tables import tables
from experiments.core.results import KeptRuns
from tests.paths import RESULTS

REAL = KeptRuns(RESULTS).contents()["fashion-resnet18,zeroq,w8a8,seed=0"]


def record(**changes) -> dict:
    """A record with the fields that tables read."""
    plain = {
        **{"model": "fashion/resnet18", "method": "zeroq", "w_bits": "8", "a_bits": 8, "placement": "layer_inputs"},
        **{
            "run": "a,b",
            "network": "1a2b",
            "settings": {},
            "dataset": "fashion-mnist",
            "distill_loss": None,
            "seed": 0,
            "images": 10_000,
            "granularity": "per_channel",
            "metric": "top1",
            "value": 90.0,
            "fp32_value": 92.0,
            "size_mib": 1.0,
            "fp32_size_mib": 4.0,
            "needs_data": False,
        },
    }
    return plain | changes


def whole(run: str, **changes) -> dict:
    """A record with all its fields; one of a method without images has nothing that is measured on them."""
    unmeasured = dict.fromkeys(("calibration_loss", "divergence")) if changes.get("method") in ("naive", "dfq") else {}
    return REAL | unmeasured | record(run=run, **changes)


def collected(*records: dict) -> Collection:
    """What is usable of records, by their names."""
    return collection({each["run"]: without_run(each) for each in records})


def without_run(content: dict) -> dict:
    """What ``record.json`` holds: the name is its folder's."""
    return {key: value for key, value in content.items() if key != "run"}


def tables_of(records: list[dict]) -> dict[str, Table]:
    """All tables of records that nothing is wrong with."""
    return tables(Collection(records, []))
