"""The heads of experiments say what was reported, and what of it nobody has reproduced."""

import re

import pytest

from experiments.core.choices import CONF
from tests.results.facts import CLASSIFIERS
from tests.results.stated import others

SAME = "Reproduced by others within 0.3 points: all of it."
DIFFERENT = "Reproduced by nobody within 0.3 points, the best of others:"


def head(name: str) -> str:
    """The comment that a file of an experiment begins with, in one line."""
    text = (CONF / "experiment" / f"{name}.yaml").read_text().partition("hydra:")[0]
    return " ".join(text.replace("#", " ").split())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_network_s_head_says_what_was_reported_and_reproduced(name):
    found, model = head(f"paper/{name}"), f"imagenet/{name}"
    said = re.search(r"Reported at the paper's: (.*?)\.(?: |$)", found)[1]
    if said == "none seen":
        assert others.reported().query("model == @model and column == 'ZeroQ'").empty
        return
    for bits, value in re.findall(r"(\w+/A\d) ([\d.]+)", said):
        assert value in others.values(model, others.PAPER, bits)
    missing = ", ".join(f"{bits} {value}" for bits, value in others.unreproduced(model).items() if bits in said)
    assert (f"{DIFFERENT} {missing}." if missing else SAME) in found


def test_the_detector_s_head_says_that_nobody_tried():
    rows = others.reported().query("model == 'coco/retinanet_resnet50' and column == 'ZeroQ'")
    assert len(rows) == 1
    assert f"W8/A8 {rows.value.iloc[0]:.3f}. No reproduction was seen." in head("paper/retinanet")


def test_mixed_precision_s_head_says_it_of_every_network():
    found = head("paper/mixed")
    pairs = [
        f"{name} {others.unreproduced(model)['MP6/A6']} and {others.unreproduced(model)['MP4/A8']}"
        for name, model in others.MIXED.items()
    ]
    assert f"{DIFFERENT} {', '.join(pairs)}." in found
    same = (others.best("imagenet/resnet18", column, "MP6/A6") for column in (others.PAPER, others.OTHERS))
    assert "ResNet18's {} at MP6/A6 is: {}.".format(*same) in found


def test_eight_bits_were_reproduced_on_all_classifiers():
    assert SAME in head("paper/w8a8")
    assert all("W8/A8" not in others.unreproduced(f"imagenet/{name}") for name in CLASSIFIERS)


def test_dfq_s_head_says_what_others_have_of_its_steps():
    model = "tonylins/mobilenetv2"
    published, again = (
        [others.only(model, f"{name} {steps}", "W8/A8") for steps in ("equalized", "equalized and absorbed")]
        for name in ("DFQ", "DFQ (others')")
    )
    assert f"{published[0]} equalized, {published[1]} also absorbed." in head("paper/dfq")
    assert f"{DIFFERENT} {again[0]} and {again[1]}." in head("paper/dfq")
    assert all(float(one) - float(other) > 0.3 for one, other in zip(published, again, strict=True))


def test_the_head_of_zeroq_plus_names_what_it_will_be_compared_with():
    genie, both = (others.only("imagenet/resnet18", column, "W4/A4") for column in ("GENIE", "SynQ on GENIE"))
    assert f"GENIE {genie}, SynQ on GENIE {both}." in head("zeroq_plus/methods")
