"""Two tables of the stored scores: tools by their calibration images, and tools by width."""

from pathlib import Path
from typing import Any

import pandas

from experiments.analysis.cell import Table, frame_of, mean_and_deviation
from experiments.tools.offered import BITS, OWN, SOURCES, TOOLS
from experiments.tools.scores import scores_of

COUNTED = "32 calibration images, mean ± standard deviation over seeds of the images. "
FEET = (
    f"W8/A8 by each tool's own defaults, {COUNTED}Distilled: distill=fast. The layer that gives the scores stays float "
    "in onnxruntime; the others quantize its input and weights, and leave its output in float.",
    "NNCF's defaults give each channel in front of a depthwise convolution a range of its own, which is too narrow for "
    "channels that the calibration images hardly excite.",
    "* needs data: images of the training set, which the sample of ImageNet has none of.",
)
WIDTH_FOOT = (
    f"Every layer in one width, {COUNTED}Distilled: distill=fast, the same images for every tool; own: those that the "
    "tool makes of the network alone. Every network's scores stay in float, since ranges of calibration images would "
    "cut them off; in onnxruntime the layer that gives them stays float as a whole. –: the tool does not have the "
    "width, or is not scored yet."
)
# What each tool's own settings are, and why it has not every width.
TOOL_FEET = {
    "onnxruntime": "onnxruntime 1.32.0 has weights of 4 bits but no activations: it refuses MaxPool of uint4.",
    "nncf": "NNCF 3.4.0 refuses 4 bits for its usual targets; it lists them for an NPU, which is not tried here.",
    "pt2e": "PT2E's quantizer for x86 (torchao 0.18.0) has 8 bits alone, and torchao's own 4 bits are for linear "
    "layers.",
    "mct": "MCT 2.6.1: GPTQ with its defaults and the 50 epochs of its guide, in batches of 8. Its targets have "
    "activations of 8 bits, and for A4 the IMX500's is given 4. Its data generation makes colour images, of which a "
    "layer in front of the network makes grey ones.",
    "aimet_seqmse": "AIMET 2.42.0: BatchNorm folded, weights per channel, ranges by post_training_tf_enhanced, 20 "
    "candidates of sequential MSE.",
    "zeroq+": "zeroq+: its own images are those of distill=natural, between black and white.",
    "aimet_adaround": "AIMET's AdaRound takes 500 iterations a layer, where its guide says 15,000 (10,000 at W8): "
    "those are hours a network without a GPU.",
}


def scores(folder: Path) -> pandas.DataFrame:
    """All that is stored, in the order of the tools."""
    frame = pandas.DataFrame(scores_of(folder))
    order = {tool: place for place, tool in enumerate(TOOLS)}
    return frame.sort_values(
        ["network", "tool"], key=lambda column: column.map(lambda name: order.get(name, name)), kind="stable"
    )


def images_table(frame: pandas.DataFrame) -> Table:
    """Tools by the images that they are calibrated with, at W8/A8."""
    rows: list[dict[str, Any]] = []
    for (network, tool), same in frame[frame.bits == BITS[0]].groupby(["network", "tool"], sort=False):
        if TOOLS[tool].by_images:
            row = {"Network": network, "Tool": TOOLS[tool].title, "FP32": f"{same.fp32_top1.iloc[0]:.2f}"}
            for source, title in SOURCES.items():
                row[title] = mean_and_deviation(same[same.images == source].top1, "top1")
            rows.append(row)
    return Table("Other tools, by their calibration images. Top-1 accuracy (%)", frame_of(rows), FEET)


def widths_table(frame: pandas.DataFrame) -> Table:
    """Tools by width, with the images that each has for all of them."""
    rows: list[dict[str, Any]] = []
    fashion = frame[frame.images.isin(["distilled", OWN]) & frame.network.str.startswith("fashion/")]
    for (network, tool, images), same in fashion.groupby(["network", "tool", "images"], sort=False):
        row = {"Network": network, "Tool": TOOLS[tool].title, "Images": images, "FP32": f"{same.fp32_top1.iloc[0]:.2f}"}
        for bits in BITS:
            row[bits] = mean_and_deviation(same[same.bits == bits].top1, "top1")
        rows.append(row)
    feet = [text for tool, text in TOOL_FEET.items() if tool in set(fashion.tool)]
    return Table("Other tools and zeroq, by width. Top-1 accuracy (%)", frame_of(rows), (WIDTH_FOOT, *feet))


def write_tables(folder: Path) -> None:
    """Both tables, beside the scores."""
    frame = scores(folder)
    images_table(frame).write(folder / "table")
    widths_table(frame).write(folder / "widths")
