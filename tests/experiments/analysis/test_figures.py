"""Figures: which records one shows."""

from experiments.analysis.selection import comparable, recipe_words, setting_words
from tests.experiments.analysis.records import record


def test_figures_compare_like_with_like():
    records = [record(seed=1), record(), record(method="gaussian"), record(settings={"percentile": "99"})]
    groups = comparable(records, setting_words)
    assert {words: len(group) for words, group in groups.items()} == {
        ("fashion/resnet18",): 2,
        ("fashion/resnet18", "percentile=99"): 1,
    }


def test_images_are_shown_once_for_all_placements_and_bits():
    records = [record(), record(placement="after_relu"), record(settings={"distill.count": "8"})]
    records.append(record(settings={"distill": "bounded", "bits.refine": "8"}))
    groups = comparable(records, recipe_words)
    assert {words: len(group) for words, group in groups.items()} == {
        ("fashion/resnet18",): 3,
        ("fashion/resnet18", "distill.count=8"): 1,
    }
