"""The ways in which a number about quantization may be too good: none of them is open to a run."""

import copy
import json

import pytest
import torch

from experiments.core import once
from tests.command_line import QUICK, quick
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.small_images import SmallImages
from zeroq.layers import weighted_layers
from zeroq.quantization.convert import activation_quantizers

RUN = ("model=fashion/mobilenetv2", "bits=w4a8", "tracker=disabled")


@pytest.fixture
def looked_at(monkeypatch):
    """Which splits were read, and which of what happened before and after the network was quantized."""
    events = []
    batches, sample, read, quantized = SmallImages.batches, SmallImages.sample, FashionMNIST.read, once.quantized

    def note(what, function):
        def call(*arguments, **words):
            events.append(what)
            return function(*arguments, **words)

        return call

    monkeypatch.setattr(SmallImages, "batches", note("scored", batches))
    monkeypatch.setattr(SmallImages, "sample", note("sampled", sample))
    monkeypatch.setattr(once, "quantized", lambda *inputs: [quantized(*inputs), events.append("quantized")][0])

    def read_split(root, *, train):
        events.append("training" if train else "test")
        return read(root, train=train)

    monkeypatch.setattr(FashionMNIST, "read", staticmethod(read_split))
    return events


@pytest.mark.parametrize("method", ["zeroq", "zeroq+", "gaussian", "dfq", "real"])
def test_no_test_image_reaches_calibration(method, command, looked_at):
    assert command(*RUN, f"method={method}", *quick(method)) == 0
    before = looked_at[: looked_at.index("quantized")]
    assert "scored" not in before
    if method == "real":  # whose images are the training split's
        assert before[-2:] == ["training", "sampled"]
    else:
        assert "sampled" not in before
        assert "training" not in looked_at


def test_a_network_is_scored_as_it_was_quantized(command, monkeypatch):
    """In evaluation mode, with BatchNorm's statistics and every range as they were before the first test image."""
    seen = {}
    score = once.score

    def watched(model, network, dataset, name):
        before = copy.deepcopy(model.state_dict())
        modes = set()
        hooks = [m.register_forward_hook(lambda m, *_: modes.add(m.training)) for m in model.modules()]
        found = score(model.train(), network, dataset, name)
        for hook in hooks:
            hook.remove()
        after = model.state_dict()
        seen["modes"], seen["same"] = modes, {key for key in before if torch.equal(before[key], after[key])}
        seen["all"] = set(before)
        return found

    monkeypatch.setattr(once, "score", watched)
    assert command(*RUN, "method=zeroq", "force=true", *QUICK) == 0
    assert seen["modes"] == {False}
    assert seen["same"] == seen["all"]
    assert any("running_mean" in name for name in seen["all"])
    assert any(name.endswith("quantizer.scale") for name in seen["all"])


def test_a_layer_that_is_left_in_float_ends_the_run(command, outputs, monkeypatch, capsys):
    quantized = once.quantized

    def forgetful(*inputs):
        result = quantized(*inputs)
        layer = list(weighted_layers(result.model).values())[3]
        layer.weight_bits.fill_(32)
        result.report["quantized_weight_layers"] -= 1
        return result

    monkeypatch.setattr(once, "quantized", forgetful)
    assert command(*RUN, "method=gaussian", "seed=7", *quick("gaussian")) == 1
    assert "layers are quantized, and the plan has" in " ".join(capsys.readouterr().out.split())
    assert not list((outputs / "runs").glob("*seed=7*"))


def test_every_record_counts_its_layers(command, outputs):
    assert command(*RUN, "method=zeroq", *QUICK) == 0
    folder, *_ = (outputs / "runs").glob("fashion-mobilenetv2,zeroq,w4a8*")
    record = json.loads((folder / "record.json").read_text())
    assert record["quantized_weight_layers"] == record["weight_layers"] == len(record["plan"])


@pytest.mark.parametrize("method", ["zeroq", "zeroq+", "gaussian", "real"])
def test_another_seed_is_another_run(method, command, monkeypatch):
    """Its images differ, and with them the ranges."""
    found = []
    quantized = once.quantized
    monkeypatch.setattr(once, "quantized", lambda *inputs: found.append(quantized(*inputs)) or found[-1])
    for seed in (11, 12):
        assert command(*RUN, f"method={method}", f"seed={seed}", *quick(method)) == 0
    one, other = found
    assert not torch.equal(one.images, other.images)
    scales = [torch.stack([each.scale for each in activation_quantizers(run.model).values()]) for run in found]
    assert not torch.equal(*scales)


def test_another_preprocessing_is_another_float_score(command, monkeypatch):
    """The float network's score is kept under what its input is, and shown beside the quantized one's."""
    assert command(*RUN, "method=naive") == 0
    prepare = SmallImages.prepare
    keys = []
    load_network = once.load_network

    def prepared(self, pixels):
        keys.append(self.specification)
        return prepare(self, pixels)

    monkeypatch.setattr(SmallImages, "prepare", prepared)

    def darker(config, data):
        network = load_network(config, data)
        object.__setattr__(network.input, "mean", (0.9,))
        return network

    monkeypatch.setattr(once, "load_network", darker)
    assert command(*RUN, "method=naive", "force=true") == 0
    assert {key.mean for key in keys} == {(0.9,)}  # the kept score is not of this input: it was measured again
    assert len(keys) > 2
