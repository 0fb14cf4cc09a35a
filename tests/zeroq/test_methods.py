"""Methods by name: what each consists of, what does not go together, and a new one in a file of its own."""

import sys
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from tests.paths import ROOT
from zeroq import Method
from zeroq.baselines.dfq import Steps
from zeroq.distillation.recipe import recipes
from zeroq.methods import OWN_SETTINGS, method_by_name, methods

SHAPE = (3, 16, 16)
FIELDS = ("images", "ranges", "uniform", "expansion", *OWN_SETTINGS)


def chosen(name: str) -> dict:
    """What conf/method says of a method, with what it inherits."""
    own = yaml.safe_load((ROOT / "conf" / "method" / f"{name}.yaml").read_text())
    bases = [base for base in own.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    inherited = [chosen(base) for base in bases]
    return {key: value for each in (*inherited, own) for key, value in each.items()}


def test_the_command_line_and_the_library_have_the_same_methods():
    assert methods().keys() == {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    for name, method in methods().items():
        words = chosen(name)
        assert words["name"] == name
        assert {field: words[field] for field in FIELDS} == {
            field: list(value) if isinstance(value := getattr(method, field), tuple) else value for field in FIELDS
        }
        steps = Steps(words["replace_relu6"], words["equalize"], words["absorb"]) if words["dfq"] else None
        assert steps == method.steps


@pytest.fixture(scope="module")
def chain() -> nn.Module:
    """Four layers that DFQ's statistics can be followed through; input (3, 16, 16)."""
    torch.manual_seed(0)
    convolutions = [
        (nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for channels in (3, 8, 8)
    ]
    layers = [layer for block in convolutions for layer in block]
    return estimate_statistics(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), SHAPE)


@pytest.mark.parametrize(
    "name", ["zeroq", "gaussian", "uniform_noise", "zeroq+dfq", "dfq", "naive", "omse", "ocs", "aciq"]
)
def test_every_method_runs_by_its_name(chain, name):
    images = {"count": 2, "iterations": 2} if method_by_name(name).images == "distilled" else {}
    result = zeroq.zero_shot_quantize(chain, SHAPE, 4, 8, method=name, **images)
    assert result.report["quantized_weight_layers"] == 4
    assert result.report["unreached_activations"] == []
    uniform = name in ("dfq", "naive", "omse", "ocs", "aciq")
    assert (result.sensitivity is None) == uniform
    assert result.settings.mixed != uniform
    assert result.settings.per_channel == method_by_name(name).per_channel


def test_real_images_are_the_caller_s(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="method real needs images of yours"):
        zeroq.zero_shot_quantize(hand_written, SHAPE, method="real")
    result = zeroq.zero_shot_quantize(hand_written, SHAPE, 8, 8, False, method="real", images=images)
    same = zeroq.quantize_with_images(hand_written, images, zeroq.Settings(8, 8, mixed=False))
    assert torch.equal(result.model(images), same.model(images))


def test_a_method_that_does_not_exist(hand_written):
    with pytest.raises(
        zeroq.ZeroQError,
        match="method must be one of zeroq, aciq, dfq, gaussian, naive, ocs, omse, real, uniform_noise, ",
    ):
        zeroq.zero_shot_quantize(hand_written, SHAPE, method="zero")


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"images": "guessed"}, "images must be one of"),
        ({"ranges": "guessed"}, "ranges must be one of"),
        ({"images": "none"}, "ranges='images' needs images"),
        (
            {"images": "none", "ranges": "batch", "bias_correction": "empirical"},
            "bias_correction='empirical' needs images",
        ),
        ({"ranges": "batch"}, "nothing in method own uses images"),
        ({"images": "none", "ranges": "statistics"}, "are parts of DFQ"),
        ({"bias_correction": "analytic"}, "are parts of DFQ"),
        ({"images": "none", "ranges": "batch", "steps": Steps()}, "belong to the naive method"),
    ],
)
def test_parts_that_do_not_go_together(hand_written, parts, sentence):
    method = replace(Method("own"), **parts)
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.quantize_by_method(hand_written, SHAPE, method, method.settings(8, 8))


def test_a_new_method_and_a_new_recipe_are_one_file_each(hand_written, tmp_path, monkeypatch):
    """Found beside the others: both packages look through their folders."""
    (tmp_path / "doubled.py").write_text(
        "import copy\nfrom zeroq.methods import Method\n\n\n"
        "def doubled(model, input_shape):\n"
        "    changed = copy.deepcopy(model)\n"
        "    changed.head.weight.data *= 2\n"
        "    return changed\n\n\n"
        'METHOD = Method("doubled", images="gaussian", steps=doubled)\n'
    )
    (tmp_path / "flat.py").write_text(
        "import torch\nfrom zeroq.distillation.recipe import Recipe\n\n\n"
        "def distil(model, input_shape, count, iterations, **settings):\n"
        "    return torch.zeros(count, *input_shape)\n\n\n"
        'RECIPE = Recipe("flat", distil, iterations=1)\n'
    )
    import zeroq.baselines
    import zeroq.distillation

    for package in (zeroq.baselines, zeroq.distillation):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    methods.cache_clear()
    recipes.cache_clear()
    try:
        own = zeroq.zero_shot_quantize(hand_written, SHAPE, 32, 32, False, method="doubled")
        flat = zeroq.zero_shot_quantize(hand_written, SHAPE, 8, 8, False, recipe="flat", count=3)
    finally:
        monkeypatch.undo()
        methods.cache_clear()
        recipes.cache_clear()
        for name in [name for name in sys.modules if name.endswith((".doubled", ".flat"))]:
            del sys.modules[name]
    scores = [model(own.images) - model.head.bias for model in (own.model, hand_written.eval())]
    assert torch.allclose(scores[0], 2 * scores[1], atol=1e-5)
    assert not flat.images.any()
    assert "doubled" not in methods()
