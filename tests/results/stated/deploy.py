"""The numbers of docs/deploy.md."""

from collections.abc import Iterator

from experiments.architectures.table import rows_of, summary
from tests.paths import RESULTS
from tests.results.facts import (
    BUNDLED,
    CLASSIFIERS,
    EFFICIENTNET,
    FAST,
    float_score,
    one,
    records,
    score,
    table_cell,
)

INTEGER = {"placement": "integer"}


def passages() -> Iterator[str]:
    yield from normalisation()
    yield from placements()
    yield from files()
    yield architectures()
    yield from other_tools()


def normalisation() -> Iterator[str]:
    """Black and white in the space of ImageNet's usual normalisation."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ends = [
        ", ".join(f"{(end - mean) / deviation:.3f}" for mean, deviation in zip(means, deviations, strict=True))
        for end in (0, 1)
    ]
    yield f"limits=(({ends[0]}), ({ends[1]}))"


def architectures() -> str:
    """The survey's summary."""
    found = summary(rows_of(RESULTS / "architectures"))
    whole = found["all layers but one or none in integers"]
    return (
        f"Of [{found['architectures']} of torchvision, timm and pytorchcv](../results/architectures/table.md), with "
        f"random weights, {found['exported']} are exported with placement `integer`, {whole} of them with every layer "
        f"in integers but at most one. {found['files equal']} files give what `zeroq.integer_arithmetic` gives; in the "
        f"others a rounding falls to the other side, which moves the scores of a random network far. DFQ takes "
        f"{found['dfq']}."
    )


def placements() -> Iterator[str]:
    losses = {name: float_score(name) - score(name, "zeroq", "W8/A8", FAST, **INTEGER) for name in BUNDLED}
    points = max(losses[name] for name in CLASSIFIERS)
    yield f"`integer` loses at most {points:.2f} points ({losses['retinanet']:.3f} mAP) at W8/A8"
    integer, inputs = (
        float_score(EFFICIENTNET) - score(EFFICIENTNET, "zeroq", "W8/A8", FAST, placement=placement)
        for placement in ("integer", "layer_inputs")
    )
    yield f"EfficientNet-Lite0 pays more, {integer:.1f} points where `layer_inputs` pays {inputs:.1f}"
    integer, inputs = (
        score(EFFICIENTNET, "zeroq", "MP4/A8", FAST, placement=placement) for placement in ("integer", "layer_inputs")
    )
    yield f"Its mixed precision has {inputs - integer:.1f} points less than with `layer_inputs`"


def files() -> Iterator[str]:
    exported = [record for record in records() if "deployment" in record and record["placement"] == "integer"]
    assert len(exported) == 18
    for record in exported:
        assert record["deployed_value"] == record["value"]
        assert record["metric"] == "map" or record["deployment"]["agreement"] == 1
    rows = (
        ("EfficientNet-Lite0", EFFICIENTNET, "W8/A8", True),
        ("EfficientNet-Lite0", EFFICIENTNET, "MP4/A8", False),
        ("bundled resnet18", "resnet18", "W8/A8", True),
        ("bundled mobilenetv2", "mobilenetv2", "W8/A8", True),
    )
    for title, model, bits, first in rows:
        record = one(model, "zeroq", bits, FAST, **INTEGER)
        found = record["deployment"]
        parts = " + ".join(f"{found[part]:.2f}" for part in ("weights_mib", "parameters_mib", "graph_mib"))
        size = f"{parts} = {record['deployed_mib']:.2f}"
        size += f" (FP32 {record['fp32_size_mib']:.2f})" if first else ""
        latency = found["latency_ms"]["1 threads"]
        times = f"{latency['fp32']:.2f} → {latency['quantized']:.2f}, {latency['speedup']:.2f} × faster"
        yield f"| {title}, {bits} | {size} | {times} |"


def other_tools() -> Iterator[str]:
    images = ("Gaussian", "Distilled", "Real data*")
    noise, distilled, real = (table_cell("fashion/mobilenetv2", "NNCF (OpenVINO)", column) for column in images)
    taken = f"take mobilenetv2 from {float_score('mobilenetv2')} to {noise:.2f} with noise"
    yield f"{taken}, and to {distilled:.2f} with distilled images (real ones {real:.2f})"
    for network in ("fashion/resnet18", "fashion/mobilenetv2"):
        for tool in ("onnxruntime, static", "NNCF (OpenVINO)", "PT2E (torchao)"):
            gain = table_cell(network, tool, "Distilled") - table_cell(network, tool, "Gaussian")
            assert gain < 0.1 or (network, tool) == ("fashion/mobilenetv2", "NNCF (OpenVINO)")
    for tool, words in (("onnxruntime, static", "give onnxruntime"), ("NNCF (OpenVINO)", "and NNCF's defaults")):
        distilled, noise = (table_cell(EFFICIENTNET, tool, images) for images in ("Distilled", "Gaussian"))
        yield f"{words} {distilled:.1f} instead of {noise:.1f} %"
