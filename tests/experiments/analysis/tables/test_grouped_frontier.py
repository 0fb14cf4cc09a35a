"""Exact plans beside those of a grouped search."""

from experiments.analysis.tables.grouped_frontier import tables
from tests.experiments.analysis.records import record

MIXED = {"w_bits": "MP4", "mean_weight_bits": 3.98765}
FOUND = {"sensitivity": 0.02, "divergence": 0.0124, "exact_sensitivity": 0.019, "exact_divergence": 0.0156}


def grouped(**changes) -> dict:
    settings = {"frontier": "grouped"} | changes.pop("settings", {})
    return record(run="grouped", **MIXED | {"grouped": FOUND, "settings": settings, "value": 91.5} | changes)


def test_a_row_has_both_plans():
    (table,) = tables([record(run="exact", **MIXED), grouped()]).values()
    (row,) = table.frame.to_dict("records")
    assert "Settings" not in row
    assert {name: row[name] for name in row if ":" in name} == {
        "Exact: mean": "3.988",
        "Exact: Ω": "19.00",
        "Exact: joint": "15.60",
        "Exact: score": "90.00",
        "Grouped: mean": "3.988",
        "Grouped: Ω": "20.00",
        "Grouped: joint": "12.40",
        "Grouped: score": "91.50",
    }
    assert row["Exact: Ω"].runs == ("exact",)
    assert row["Grouped: score"].runs == ("grouped",)


def test_runs_that_differ_in_more_share_no_row():
    others = [{"seed": 1}, {"a_bits": 6}, {"placement": "after_relu"}, {"settings": {"distill": "fast"}}]
    assert tables([record(run="exact", **MIXED), *(grouped(**other) for other in others)]) == {}
    fast = record(run="exact", **MIXED, settings={"distill": "fast"})
    (table,) = tables([fast, *(grouped(**other) for other in others)]).values()
    assert list(table.frame.Method) == ["ZeroQ, fast"]
