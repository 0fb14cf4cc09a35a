"""Files in onnxruntime: a float network, damaged files, and images that do not fit."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

import zeroq
from tests.zeroq.export.networks import calibrated
from zeroq.errors import ZeroQError
from zeroq.export.onnx_file import export_float_onnx
from zeroq.export.runtime import OnnxNetwork, latencies, session


def test_float_file(residual, images, tmp_path):
    path = export_float_onnx(residual, tmp_path / "float.onnx", images)
    torch.testing.assert_close(OnnxNetwork(path)(images)["scores"], residual(images)["scores"], rtol=1e-4, atol=1e-5)
    assert path.stat().st_mode & 0o777 == 0o644  # for everybody to read
    times = latencies([path, path], images, threads=1, repetitions=3)
    assert [len(each) for each in times] == [3, 3]


def test_a_file_that_onnxruntime_does_not_take(tmp_path):
    Path(tmp_path / "file.onnx").write_bytes(b"no model")
    with pytest.raises(ZeroQError, match="onnxruntime does not take"):
        session(tmp_path / "file.onnx")


def test_a_kernel_that_refuses_its_input(tmp_path):
    """A file with another number of values behind a node than it says: onnxruntime sees it when it runs."""
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 4, 4])
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    result = helper.make_tensor_value_info("values", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "shape"], ["values"])], "", [given], [result], [shape]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "file.onnx"
    )
    with pytest.raises(ZeroQError, match=r"onnxruntime cannot run the file: .*Reshape"):
        OnnxNetwork(tmp_path / "file.onnx")(torch.zeros(1, 3, 4, 4))


def test_images_that_a_file_does_not_take(residual, images, tmp_path):
    path = zeroq.export_onnx(calibrated(residual, images), tmp_path / "file.onnx", images).path
    for wrong in (images[:, :1], images[..., :8], images[0]):
        for use in (OnnxNetwork(path), lambda given: latencies([path], given)):
            with pytest.raises(ZeroQError, match=r"takes images of shape \[batch, 3, 16, 16\], not"):
                use(wrong)
    assert latencies([str(path)], images.double(), repetitions=1)
    with pytest.raises(ZeroQError, match="there is no file"):
        OnnxNetwork(tmp_path / "other.onnx")
