"""8 bits of all networks."""

from tests.experiments.analysis.records import record, tables_of


def test_reported_networks_are_rows_of_their_own():
    rows = tables_of([record()])["paper-w8a8"].frame.set_index("Network")
    assert rows.loc["fashion/resnet18", "Reported to lose"] == "–"
    assert (rows.loc["imagenet/resnet18", "ZeroQ"], rows.loc["imagenet/resnet18", "Reported to lose"]) == ("–", "0.04")


def test_sources_that_differ_make_a_range_with_a_note_each():
    table = tables_of([record()])["paper-w8a8"]
    rows = table.frame.set_index("Network")
    assert rows.loc["imagenet/squeezenext", "Reported to lose"] == "0.21 to 1.20"
    assert any("imagenet/squeezenext 1.20" in note and "SQuant" in note for note in table.notes)
    assert any("imagenet/squeezenext 0.21" in note and "amirgholami/ZeroQ README" in note for note in table.notes)
