"""Calibration images as files: what stands in them, and who takes them."""

import json

import numpy
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from PIL import Image

import zeroq
from zeroq.errors import ZeroQError
from zeroq.export.onnx_file import export_float_onnx
from zeroq.export.runtime import OnnxNetwork, kernels


def test_the_very_values(images, tmp_path):
    folder = zeroq.export_calibration_set(images, tmp_path / "set")
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.json", "images.npz", "png"]
    assert torch.equal(zeroq.read_calibration_set(folder), images)
    with numpy.load(folder / "images.npz") as stored:
        assert stored["images"].dtype == numpy.float32


def pictures(folder) -> torch.Tensor:
    """The pictures of a set, [N, H, W] or [N, H, W, 3]."""
    return torch.stack([torch.from_numpy(numpy.array(Image.open(path))) for path in sorted((folder / "png").iterdir())])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_whole_range(images, tmp_path, channels):
    images = images[:, :channels]
    folder = zeroq.export_calibration_set(images, tmp_path / "set")
    described = json.loads((folder / "calibration.json").read_text())
    assert described["cut_off"] == 0
    scale, offset = torch.tensor(described["scale"]), torch.tensor(described["offset"])
    values = pictures(folder).reshape(8, 16, 16, channels) * scale + offset
    assert ((values - images.permute(0, 2, 3, 1)).abs() <= 0.501 * scale).all()


def test_pictures_that_a_normalisation_was_applied_to(tmp_path):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    pixels = torch.randint(0, 256, (4, 3, 8, 8))
    images = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    images[0, 0, 0, 0], pixels[0, 0, 0, 0] = 50, 255  # whiter than white
    folder = zeroq.export_calibration_set(images, tmp_path / "set", mean=mean, std=std)
    assert torch.equal(pictures(folder), pixels.permute(0, 2, 3, 1))
    assert json.loads((folder / "calibration.json").read_text())["cut_off"] == 1 / images.numel()


def test_other_numbers_of_channels_have_no_pictures(tmp_path):
    folder = zeroq.export_calibration_set(torch.randn(2, 4, 5, 5), tmp_path / "set")
    assert not (folder / "png").exists()


def test_onnxruntime_takes_them(hand_written, images, tmp_path):
    folder = zeroq.export_calibration_set(images, tmp_path / "set")
    path = export_float_onnx(hand_written, tmp_path / "float.onnx", images)
    reader = zeroq.CalibrationReader(folder, batch_size=3)
    assert isinstance(reader, CalibrationDataReader)
    assert [len(reader.get_next()["images"]) for _ in range(3)] == [3, 3, 2]
    assert reader.get_next() is None
    reader.rewind()
    assert len(zeroq.CalibrationReader(images).get_next()["images"]) == 1
    with pytest.raises(ZeroQError, match="number of images, not 0"):
        zeroq.CalibrationReader(images, batch_size=0)
    # Weights of 7 bits, so that sums are right on processors without VNNI too.
    quantize_static(path, tmp_path / "quantized.onnx", reader, per_channel=True, reduce_range=True)
    assert kernels(tmp_path / "quantized.onnx")["QLinearConv"] > 0
    expected = hand_written(images)
    assert (OnnxNetwork(tmp_path / "quantized.onnx")(images) - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("images", "words", "said"),
    [
        (torch.zeros(3, 4, 4), {}, "images must"),
        (torch.full((2, 3, 4, 4), torch.nan), {}, "NaN"),
        (torch.zeros(2, 3, 4, 4), {"mean": (0.5,), "std": (0.2,)}, "3 numbers each"),
        (torch.zeros(2, 3, 4, 4), {"mean": (0.5, 0.5, 0.5)}, "3 numbers each"),
        (torch.zeros(2, 3, 4, 4), {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0, 0.2)}, "above 0"),
        (torch.zeros(2, 3, 4, 4), {"mean": (0.5, torch.nan, 0.5), "std": (0.2, 0.2, 0.2)}, "finite numbers"),
    ],
)
def test_bad_input(tmp_path, images, words, said):
    with pytest.raises(ZeroQError, match=said):
        zeroq.export_calibration_set(images, tmp_path / "set", **words)
    assert not list(tmp_path.iterdir())


def test_folders(images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZeroQError, match="exists already"):
        zeroq.export_calibration_set(images, tmp_path / "file")
    with pytest.raises(ZeroQError, match="cannot write"):
        zeroq.export_calibration_set(images, tmp_path / "file" / "set")
    with pytest.raises(ZeroQError, match="is no calibration set"):
        zeroq.read_calibration_set(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "images.npz").touch()
    with pytest.raises(ZeroQError, match="is no calibration set"):
        zeroq.read_calibration_set(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
