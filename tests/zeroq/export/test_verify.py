"""What becomes of a file whose outputs differ, by where and by how much they first do."""

import pytest
import torch

import zeroq
from tests.zeroq.export.networks import calibrated
from zeroq.errors import ZeroQError
from zeroq.export import verify
from zeroq.export.verify import Difference


@pytest.fixture
def exported(residual, images, tmp_path):
    quantized = calibrated(residual, images, placement="integer")
    return zeroq.export_onnx(quantized, tmp_path / "file.onnx", images).path, quantized, images


def test_only_one_rounding_to_the_other_side_is_let_pass(exported, monkeypatch):
    monkeypatch.setattr(verify, "_outputs_apart", lambda found, expected: 0.5)
    for first, said in (
        (Difference("sum", 1.0), None),
        (Difference("sum", 2.0), "first at sum, by 2 steps; nothing is written"),
        (None, "differ by 0.5 of the largest, first in what gives the outputs"),
    ):
        monkeypatch.setattr(verify, "first_difference", lambda *arguments, first=first: first)
        if said is None:
            assert verify.verify(*exported) == first
        else:
            with pytest.raises(ZeroQError, match=said):
                verify.verify(*exported)


def test_noise_goes_through_the_file_as_well(exported, monkeypatch):
    """The network's own image may reach less of it."""
    batches = []

    def apart(found, expected):
        batches.append(len(found["scores"]))
        return 0.0 if len(batches) == 1 else 0.5

    monkeypatch.setattr(verify, "_outputs_apart", apart)
    monkeypatch.setattr(verify, "first_difference", lambda *arguments: None)
    with pytest.raises(ZeroQError, match="would not compute what was simulated"):
        verify.verify(*exported)
    assert batches == [1, 3]


def test_outputs_differ_by_shares_of_each_tensor_s_largest():
    expected = {"a": torch.tensor([4.0, -8.0]), "b": torch.tensor([0.5]), "none": torch.zeros(0)}
    found = {"a": torch.tensor([4.0, -9.0]), "b": torch.tensor([0.375]), "none": torch.zeros(0)}
    assert verify._outputs_apart(found, expected) == 0.25
    assert verify._outputs_apart(expected, expected) == 0
    assert verify._outputs_apart(found | {"b": torch.tensor([torch.nan])}, expected) == float("inf")
