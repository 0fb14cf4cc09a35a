"""A run is the library's own call: the same plan, the same scales, the same score."""

import json

import numpy
import pandas
import pytest
import torch

import zeroq
from experiments.core import once
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.modules import channels_last
from zeroq.networks import zoo

QUICK = {"count": 2, "iterations": 3, "seed": 1}
WORDS = ("seed=1", "tracker=disabled")


def words_of(method: str) -> list[str]:
    """What a method takes of the quick settings."""
    count, iterations = "distill.count=2", "distill.iterations=3"
    return [count, iterations] if method.startswith("zeroq") else [count] if method == "gaussian" else []


@pytest.mark.parametrize(
    ("method", "bits", "arguments"),
    [
        ("zeroq", "mp4a8", (4, 8)),
        ("gaussian", "w4a4", (4, 4, False)),
        ("zeroq+dfq", "w4a8", (4, 8, False)),
        ("dfq", "w8a8", (8, 8)),
        ("naive", "w4a8", (4, 8)),
    ],
)
def test_a_run_is_what_one_call_of_the_library_gives(command, outputs, monkeypatch, method, bits, arguments):
    kept = []
    quantized = once.quantized

    def keep(*inputs):
        kept.append(quantized(*inputs))
        return kept[-1]

    monkeypatch.setattr(once, "quantized", keep)
    assert command("model=fashion/mobilenetv2", f"method={method}", f"bits={bits}", *WORDS, *words_of(method)) == 0
    (folder,) = (outputs / "runs").glob(f"fashion-mobilenetv2,{method},{bits},seed=1*")
    record = json.loads((folder / "record.json").read_text())

    network = zoo.load("mobilenetv2", None)
    images = {} if method in ("dfq", "naive") else QUICK
    # Only DFQ asks for the ends of a pixel's range; the images of the published recipe have none.
    statistics = {"limits": network.input.limits} if method == "dfq" else {}
    result = zeroq.zero_shot_quantize(
        network.module, network.input.shape, *arguments, method=method, **images, **statistics
    )
    assert result.plan == record["plan"]
    (run,) = kept
    assert run.model.state_dict().keys() == result.model.state_dict().keys()
    for name, tensor in result.model.state_dict().items():
        # The naive method's ranges are each batch's own: its scales are NaN.
        assert torch.allclose(tensor, run.model.state_dict()[name], rtol=0, atol=0, equal_nan=True), name
    if result.sensitivity is None:
        assert not (folder / "sensitivity.csv").exists()
    else:
        written = pandas.read_csv(folder / "sensitivity.csv", index_col="layer").rename(columns=int)
        numpy.testing.assert_allclose(written.to_numpy(), result.sensitivity.to_numpy(), rtol=1e-8)  # nine digits
    with channels_last(result.model, network.input.shape):  # sums of another order could change a prediction
        score = evaluate(result.model, FashionMNIST(DATA, network.input).batches())
    assert round(score.top1, 4) == record["value"]
    assert round(score.top5, 4) == record["top5"]
