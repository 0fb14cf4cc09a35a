"""The runs that a command line asks for."""

import hydra
import pytest

from experiments.cli.jobs import grids, planned, planned_names
from experiments.core.choices import CONF
from experiments.core.config import typed
from experiments.core.idle import OF_SENSITIVITIES, what_it_is_of
from zeroq.methods import methods
from zeroq.settings import Settings


def names(*arguments: str) -> list[str]:
    return list(planned_names(planned(list(arguments))))


def test_an_experiment_does_its_grids_one_after_the_other():
    found = names("experiment=paper/dfq", "bits=w4a8")
    plain = "fashion-mobilenetv2,dfq,w4a8,seed=0"
    assert found == [
        f"{plain},method.absorb=false,method.bias_correction=none,method.equalize=false,method.replace_relu6=false",
        f"{plain},method.absorb=false,method.bias_correction=none,method.equalize=false",
        f"{plain},method.absorb=false,method.bias_correction=none",
        f"{plain},method.bias_correction=none",
    ]


def test_what_the_command_line_says_takes_the_place_of_what_an_experiment_does():
    assert len(grids(["experiment=paper/resnet18"])) == 2
    found = names("experiment=paper/resnet18", "seed=7", "method=naive,zeroq", "bits=w8a8")
    assert sorted(found) == [f"fashion-resnet18,{method},w8a8,seed=7" for method in ("naive", "zeroq")]
    (other,) = names("experiment=paper/plans", "scale=imagenet", "bits=w4a8")
    assert other == "imagenet-resnet50,zeroq,w4a8,seed=0"


def test_a_list_of_the_configuration_is_in_every_grid_that_names_it():
    found = names("experiment=paper/w8a8", "lists.methods='naive,real'")
    assert {name.split(",")[1] for name in found} == {"naive", "real"}
    assert len(found) == 14


@pytest.mark.parametrize("alias", ["distill=paper", "distill=published"])
def test_the_published_recipe_is_never_part_of_a_name(alias):
    assert names("-m", alias, "bits=w8a8") == ["fashion-resnet18,zeroq,w8a8,seed=0"]
    assert names("-m", alias, "distill.count=8") == ["fashion-resnet18,zeroq,w8a8,seed=0,distill.count=8"]


def test_the_published_recipe_has_two_names():
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        one, other = (typed(hydra.compose("config", [f"distill={name}"])) for name in ("paper", "published"))
    assert one == other


def test_a_sweep_names_runs_after_what_their_methods_use():
    found = names(
        "-m", "method=dfq,gaussian,zeroq", "distill.iterations=50", "distill.count=4", "sensitivity=estimated"
    )
    assert found == [
        "fashion-resnet18,dfq,w8a8,seed=0",
        "fashion-resnet18,gaussian,w8a8,seed=0,distill.count=4,sensitivity=estimated",
        "fashion-resnet18,zeroq,w8a8,seed=0,distill.count=4,distill.iterations=50,sensitivity=estimated",
    ]


@pytest.mark.parametrize("method", list(methods()))
def test_what_is_idle_is_told_as_the_methods_do(method):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(hydra.compose("config", [f"method={method}"]))
    own = config.method
    for key in OF_SENSITIVITIES:
        idle = what_it_is_of(key, own.images, own.ranges, uniform=own.uniform) is not None
        assert idle != own.build().measures_sensitivities
    uses = own.build().uses_images(config.settings(4))
    assert (what_it_is_of("distill.count", own.images, own.ranges, uniform=own.uniform) is None) == uses


def test_the_published_quantizers_reach_the_network():
    words = ["placement=after_relu", "weight_range=min_max", "calibration=quantized"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        settings, plain = (typed(hydra.compose("config", each)).settings(4) for each in (words, []))
    assert (settings.placement, settings.weight_range, settings.calibration) == ("after_relu", "min_max", "quantized")
    assert (plain.weight_range, plain.calibration) == (Settings().weight_range, Settings().calibration)
    assert names(*words) == [f"fashion-resnet18,zeroq,w8a8,seed=0,{','.join(sorted(words))}"]
    assert names("weight_range=with_zero", "calibration=float") == ["fashion-resnet18,zeroq,w8a8,seed=0"]


@pytest.mark.parametrize(
    ("typed_value", "spelled"),
    [("bits.weight='8'", ""), ("bits.weight='4'", ",bits.weight=4"), ('percentile="99"', ",percentile=99.0")],
)
def test_a_number_in_quotes_is_a_number(typed_value, spelled):
    assert names(typed_value) == [f"fashion-resnet18,zeroq,w8a8,seed=0{spelled}"]
