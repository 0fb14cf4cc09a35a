"""``zeroq quantize``: one network of one's own, and every mistake in one sentence."""

import json
import re

import onnx
import pytest
import torch
from torch import nn

from tests.zeroq.datasets.photographs import save
from zeroq import OnnxNetwork, ZeroQError
from zeroq.command import quantization
from zeroq.command.quantization import budget
from zeroq.methods import method_by_name
from zeroq.quantization.size import size_mib

OWN = ("quantize", "nets:build", "--shape", "3", "32", "32", "--count", "4", "--iterations", "3")


def test_a_network_of_ones_own_becomes_a_file_and_a_page(zeroq_command, workplace):
    network = __import__("nets").build().eval()
    with torch.no_grad():
        network[0].weight *= 3  # another network than the module builds
    torch.save({"state_dict": network.state_dict()}, workplace / "mine.pt")
    status, printed, said = zeroq_command(
        *OWN, "--checkpoint", "mine.pt", "--report", "page <1>.html", "--bits", "w8a8"
    )
    assert status == 0, said
    assert sorted(path.name for path in workplace.glob("*.[ho]*")) == ["page <1>.html", "quantized.onnx"]
    assert [path.name for path in workplace.iterdir() if path.name.startswith(".")] == []
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, other = network(images), __import__("nets").build().eval()(images)
    found = OnnxNetwork(workplace / "quantized.onnx")(images)
    assert (found - expected).abs().max() < 0.3 * (found - other).abs().max()
    assert "100.0 % of 4 images" in printed
    assert re.search(r"in float +no layer", printed)
    assert re.search(r"0 +Conv2d +216 +8 .* integers", printed)
    assert [line.partition(":")[0] for line in said.splitlines()][:3] == [
        "load the network",
        "distil images",
        "measure sensitivities",
    ]
    entries = {each.key: each.value for each in onnx.load(workplace / "quantized.onnx").metadata_props}
    assert entries["zeroq.model"] == "nets:build"
    assert (entries["zeroq.w_bits"], entries["zeroq.a_bits"], entries["zeroq.placement"]) == ("8", "8", "integer")
    assert json.loads(entries["zeroq.plan"]) == {"0": 8, "3": 8, "8": 8}
    page = (workplace / "page <1>.html").read_text()
    assert "data:image/png;base64," in page
    assert page.count("<polyline") == 7  # one for each width
    assert not re.search(r"(src|href)=\"http", page)


def test_within_a_second_images_are_smaller_than_the_file_takes(zeroq_command, workplace):
    words = ("quantize", "nets:build", "--shape", "3", "160", "160", "--count", "2", "--seconds", "1")
    status, printed, said = zeroq_command(*words)
    assert status == 0, said
    assert "% of 2 images" in printed
    assert OnnxNetwork(workplace / "quantized.onnx")(torch.zeros(1, 3, 160, 160)).shape == (1, 5)
    status, _, said = zeroq_command(*words, "--iterations", "3")
    assert status == 2
    assert "seconds chooses the iterations" in said


def test_pictures_are_drawn_prepared_and_used(zeroq_command, workplace, monkeypatch):
    given = {}

    def stopped(*arguments, **words):
        given.update(words)
        raise ZeroQError("seen enough")

    monkeypatch.setattr(quantization, "zero_shot_quantize", stopped)
    for index, shade in enumerate((0, 255, 255)):
        save(workplace / "pictures" / "below" / f"{index}.jpg", shade)
    (workplace / "pictures" / "notes.txt").write_text("no picture")
    normalisation = ("--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25")
    status, _, said = zeroq_command(*OWN, *normalisation, "--images", "pictures", "--method", "real")
    assert (status, said.splitlines()[-1]) == (2, "error: seen enough")
    assert given["images"].shape == (3, 3, 32, 32)
    assert sorted(given["images"].mean((1, 2, 3)).tolist()) == pytest.approx([-2, 2, 2], abs=0.05)
    assert given["limits"] == ((-2,) * 3, (2,) * 3)
    assert list(workplace.glob("*.onnx")) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere:build"], "there is no module 'nowhere'"),
        (["nets.py:build"], "named as Python imports it, nets:build"),
        (["needs:build"], "it needs no_such_package, which is not installed"),
        (["wrong:build"], "wrong cannot be imported: .*SyntaxError"),
        (["nets"], "the network is MODULE:NAME"),
        (["nets:built"], "nets has no 'built'"),
        (["nets:wants"], "cannot be called without arguments: .*classes"),
        (["nets:gives_none"], "gives a NoneType, not a network"),
        (["nets:breaks"], r"nets.py:\d+ RuntimeError: no such GPU"),
        (["nets:Breaks"], "does not run on images of shape .*64 pixels, please"),
        (["nets:plain"], "BatchNorm"),
        (["nets:network", "--shape", "4", "32", "32"], "does not accept images of shape"),
        (["nets:network", "--shape", "3", "0", "32"], "three whole numbers"),
        (["nets:network", "--shape", "3", "32"], "expected 3 arguments"),
        (["nets:network", "--checkpoint", "nothing.pt"], "nothing.pt cannot be read"),
        (["nets:network", "--checkpoint", "other.pt"], "other.pt does not fit Sequential: .*missing"),
        (["nets:network", "--classes", "7"], "--classes says how many a checkpoint has"),
        (["missing.pt2"], "there is no file missing.pt2"),
        (["nets.py.pt2"], "no program of torch.export"),
        (["timm:resnet_of_mine"], "timm has no 'resnet_of_mine'"),
        (["bundled:vgg"], "the bundled zoo has no 'vgg'"),
        (["nets:network", "--bits", "4"], "--bits is mp4a8"),
        (["nets:network", "--bits", "w4.5a8"], "mp4.5a8 is a mean"),
        (["nets:network", "--bits", "w9a8"], "bits"),
        (["nets:network", "--size-mib", "0.0001"], "do not fit into 0.0001 MiB: with 2 bits each they take"),
        (["nets:network", "--size-mib", "nan"], "do not fit into nan MiB"),
        (["nets:network", "--size-mib", "1", "--bits", "w8a8"], "not allowed with argument"),
        (["nets:network", "--method", "magic"], "method must be one of"),
        (["nets:network", "--method", "dfq"], "give all the same, as in --bits w8a8"),
        (["nets:network", "--method", "naive", "--bits", "w8a8"], "no fixed ranges"),
        (["nets:network", "--method", "aciq", "--bits", "w8a8"], "between the integers that a file holds"),
        (["nets:network", "--method", "real"], "--images FOLDER"),
        (["nets:network", "--images", "nowhere"], "nowhere is no folder"),
        (["nets:network", "--images", "."], "holds no pictures"),
        (["nets:network", "--mean", "0.5"], "give both, or leave both out"),
        (["nets:network", "--mean", "0.5", "--std", "0.5"], "--mean is a number for each of the 3 channels"),
        (["nets:network", "--placement", "somewhere"], "placement"),
        (["nets:network", "--count", "0"], "count must be at least 1"),
        (["nets:network", "--seed", "-1"], "seed must be"),
        (["nets:network", "--device", "quantum"], "there is no device 'quantum' here"),
        (["nets:network", "--out", "nowhere/quantized.onnx"], "there is no folder nowhere"),
        (["nets:network", "--out", "."], "is a folder"),
        (["nets:network", "--report", "nowhere/page.html"], "there is no folder nowhere"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_mistake_is_one_sentence(words, sentence, zeroq_command, workplace):
    torch.save(nn.Linear(3, 5).state_dict(), workplace / "other.pt")
    (workplace / "nets.py.pt2").write_text("no archive")
    shape = [] if "--shape" in words or ".pt2" in words[0] or words[0].startswith(("timm", "bundled")) else OWN[2:6]
    status, printed, said = zeroq_command("quantize", *words[:1], *shape, *words[1:])
    assert status == 2
    assert printed == ""
    assert re.search(sentence, said)
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if "error: " in line]) == 1
    assert sorted(workplace.glob("*.onnx")) == sorted(workplace.glob(".*-*")) == []


def test_a_failed_export_keeps_the_older_file(zeroq_command, workplace, monkeypatch):
    def refused(quantized, path, *arguments, **words):
        path.write_text("half a file")
        raise ZeroQError("refused")

    monkeypatch.setattr(quantization, "export_onnx", refused)
    (workplace / "quantized.onnx").write_text("older")
    status, _, said = zeroq_command(*OWN)
    assert (status, said.splitlines()[-1]) == (2, "error: refused")
    assert (workplace / "quantized.onnx").read_text() == "older"
    assert [path.name for path in workplace.iterdir() if path.name.startswith(".")] == []


def test_an_interruption_is_no_mistake(zeroq_command, monkeypatch):
    monkeypatch.setattr(quantization, "zero_shot_quantize", lambda *arguments, **words: signal_user())
    status, _, said = zeroq_command(*OWN)
    assert (status, said.splitlines()[-1]) == (130, "error: interrupted; nothing is written")


def signal_user():
    raise KeyboardInterrupt


def test_a_budget_in_mib_is_the_mean_bits_of_the_parameters():
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3))
    method = method_by_name("zeroq")
    bits, activation_bits, mixed = budget(network, method, "mp4a8", size_mib(network, 4))
    assert (bits, activation_bits, mixed) == (pytest.approx(4), 8, True)
    assert budget(network, method, "mp4a8", 100) == (8, 8, True)  # it fits with the widest
    assert budget(network, method, "MP2.5A6", None) == (2.5, 6, True)
    assert budget(network, method, "w3a8", None) == (3, 8, False)
