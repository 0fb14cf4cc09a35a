"""Reported figures: whose they are, what they are compared with, and what sources disagree in."""

import pandas
import pytest

from experiments.analysis import reported
from experiments.analysis.columns import COLUMNS
from experiments.analysis.reported import BASELINE, costs, read_reported, read_seconds, reported_range
from experiments.core.record import formatted
from tests.experiments.analysis.records import record, tables_of
from zeroq.errors import ZeroQError

HEAD = "dataset,model,method,w_bits,a_bits,size_mib,metric,value,fp32,data_free,finetuned,seen_in"


@pytest.fixture
def file(monkeypatch, tmp_path):
    """Writes a file of reported figures that takes the place of the committed one."""

    def write(*rows: str) -> None:
        (tmp_path / "reported.csv").write_text("\n".join([HEAD, *rows]) + "\n")

    monkeypatch.setattr(reported, "REPORTED", tmp_path / "reported.csv")
    return write


def test_every_column_of_a_reported_method_has_figures():
    assert {column.title for column in COLUMNS if column.reported} <= set(read_reported().column)


def test_a_method_without_a_column_is_an_error(file):
    file("imagenet,resnet18,nobody's,8,8,,top1,70.1,71.47,yes,no,somewhere")
    with pytest.raises(ZeroQError, match="nobody's"):
        read_reported()


@pytest.mark.parametrize(
    ("method", "column"),
    [
        ("zeroq", "ZeroQ"),
        ('"zeroq, quoted by SQuant"', "ZeroQ"),
        ('"zeroq, rerun by AIT\'s author"', "ZeroQ"),
        ('"zeroq, official code rerun by talenz"', "ZeroQ"),
        ('"zeroq-mp reproduction, min-max"', "ZeroQ-MP (others')"),
        ('"fp32, quoted by AIT"', BASELINE),
        # Another method than DFQ.
        ('"dfq, + equalization"', "DFQ equalized"),
        ('"zeroq\'s images, fine-tuned (IntraQ)"', "ZeroQ's images, fine-tuned"),
    ],
)
def test_a_method_is_the_same_whoever_says_so(file, method, column):
    file(f"imagenet,resnet18,{method},4,4,,top1,19.09,71.47,yes,no,somewhere")
    assert list(read_reported().column) == [column]


@pytest.mark.parametrize(
    ("words", "model"),
    [
        ("imagenet,resnet18", "imagenet/resnet18"),
        ("imagenet,resnet18 (torchvision)", "torchvision/resnet18"),
        ("cifar10,resnet20", "pytorchcv/resnet20_cifar10"),
        ("cifar100,resnet20", "pytorchcv/resnet20_cifar100"),
        ("coco,retinanet_resnet50", "coco/retinanet_resnet50"),
    ],
)
def test_a_network_is_called_as_a_measured_one(file, words, model):
    file(f"{words},zeroq,4,4,,top1,19.09,71.47,yes,no,somewhere")
    assert list(read_reported().model) == [model]


def test_activations_have_as_many_bits_as_weights_where_no_source_says(file):
    file("imagenet,resnet18,zeroq,4,,,top1,24.16,,yes,no,one", "imagenet,resnet18,zeroq,MP4,8,,top1,65.1,,yes,no,other")
    assert list(read_reported().bits) == ["W4/A4", "MP4/A8"]


def test_seconds_are_no_scores(file):
    file("imagenet,resnet50,zeroq,,,,seconds,30,,yes,no,one", "imagenet,resnet50,zeroq,4,4,,top1,8.38,,yes,no,other")
    assert list(read_reported().value) == [8.38]
    assert list(read_seconds().value) == [30]


def test_a_range_is_from_the_lowest_to_the_highest():
    assert reported_range(pandas.Series([22.58, 19.09, 24.16]), "top1") == "19.09 to 24.16"
    assert reported_range(pandas.Series([71.43, 71.43, None]), "top1") == "71.43"
    assert reported_range(pandas.Series([None], dtype=float), "top1") == "–"
    assert reported_range(pandas.Series([0.3641, 0.3644]), "map") == "0.364"


def test_what_a_method_costs_is_not_known_where_no_source_says(file):
    file(
        "imagenet,resnet18,synq on genie,4,4,,top1,69.88,,yes,,one",
        "imagenet,resnet18,gdfq,4,4,,top1,60.6,,yes,yes,other",
    )
    first, second = (read_reported().iloc[[row]] for row in (0, 1))
    nothing = pandas.DataFrame()
    assert [costs(nothing, first), costs(nothing, second)] == [("yes", "–"), ("yes", "no")]


def test_every_reported_score_stands_in_a_table_with_its_source():
    found = tables_of([record(model="imagenet/resnet18", dataset="imagenet", w_bits="4", a_bits=4)])
    by_model: dict[str, str] = {}
    for table in found.values():
        for model in {table.model, *table.frame.get("Network", ())} - {None}:
            by_model[model] = by_model.get(model, "") + table.markdown()
    seen = read_reported().dropna(subset="value")
    missing = [
        (row.model, row.method, row.value)
        for row in seen.itertuples()
        if formatted(row.value, row.metric) not in by_model[row.model] or row.seen_in not in by_model[row.model]
    ]
    assert missing == []
    assert all(f"to take {row.value:.0f} s" in by_model[row.model] for row in read_seconds().itertuples())
