"""8 bits of all networks."""

from tests.experiments.analysis.records import record, tables_of


def test_reported_networks_are_rows_of_their_own():
    rows = tables_of([record()])["paper-w8a8"].frame.set_index("Network")
    assert rows.loc["fashion/resnet18", "Reported to lose"] == "–"
    assert (rows.loc["imagenet/resnet18", "ZeroQ"], rows.loc["imagenet/resnet18", "Reported to lose"]) == ("–", "0.04")
