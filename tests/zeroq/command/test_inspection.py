"""``zeroq inspect``: what a file says, and what no file may do to a terminal."""

import re

import onnx
import pytest
import torch
from torch import nn

from tests.zeroq.export.networks import Residual, calibrated
from zeroq import export_float_onnx, export_onnx
from zeroq.export.contents import contents


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A quantized network and its file."""
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 16)
    network = Residual().eval()
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    quantized = calibrated(network, images, dict(zip(names, (8, 4, 3, 32), strict=True)), placement="integer")
    path = tmp_path_factory.mktemp("file") / "quantized.onnx"
    words = {"method": "zeroq", "note": "[bold]\x1b[31mred"}
    return quantized, path, export_onnx(quantized, path, images[:1], metadata=words)


def test_the_layers_are_those_that_were_exported(exported):
    quantized, path, report = exported
    found = contents(path)
    assert {layer.name: layer.bits for layer in found.layers} == {layer.name: layer.bits for layer in report.layers}
    assert [layer.stored for layer in found.layers] == ["int8", "int4", "int4", "float"]
    assert [layer.weights for layer in found.layers] == [layer.weights for layer in report.layers]
    for layer in found.layers[:3]:
        module = quantized.get_submodule(layer.name)
        scales = module.weight_scale / 2 ** (8 - layer.bits)
        assert layer.scales == pytest.approx(
            (scales.min().item(), scales.max().item()), rel=1e-4
        )  # a bias may ask for another
    assert found.layers[3].scales is None
    assert found.inputs == {"images": ["batch", 3, 16, 16]}
    assert found.outputs.keys() == {"scores", "maps_0"}
    assert found.opset == 21


def test_they_are_shown_and_nothing_in_them_is_acted_on(exported, zeroq_command):
    status, printed, _ = zeroq_command("inspect", str(exported[1]))
    assert status == 0
    assert re.search(r"stem.0 +Conv +432 +8 +int8", printed)
    assert re.search(r"head +Gemm +80 +float +float", printed)
    assert re.search(r"method +zeroq", printed)
    assert r"[bold]\x1b[31mred" in printed
    assert "\x1b" not in printed


def test_other_files_are_refused(exported, zeroq_command, workplace):
    (workplace / "text.onnx").write_text("no model")
    export_float_onnx(nn.Sequential(nn.Conv2d(3, 4, 3)), "float.onnx", torch.zeros(1, 3, 8, 8))
    model = onnx.load(exported[1])
    for number, plan in enumerate(("{", "[1]", '{"stem.0": "many"}', '{"elsewhere": 8}')):
        next(each for each in model.metadata_props if each.key == "zeroq.plan").value = plan
        onnx.save(model, f"plan{number}.onnx")
    sentences = {
        "nothing.onnx": "cannot be read: No such file",
        ".": "cannot be read: Is a directory",
        "text.onnx": "cannot be read: it is no ONNX file",
        "float.onnx": "holds no plan: it is not of zeroq.export_onnx",
        **{f"plan{number}.onnx": "is damaged: its plan" for number in range(4)},
    }
    for name, sentence in sentences.items():
        status, printed, said = zeroq_command("inspect", name)
        assert (status, printed) == (2, "")
        assert re.fullmatch(rf"error: {re.escape(name)} {sentence}.*\n", said)
