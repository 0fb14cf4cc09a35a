"""The tools that are compared: the widths that each offers, the images that it is given, and where it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

BITS = ("W8/A8", "W4/A8", "W4/A4")
SOURCES = {"gaussian": "Gaussian", "distilled": "Distilled", "real": "Real data*"}
OWN = "own"


@dataclass(frozen=True)
class Tool:
    """A tool.

    Args:
        title: as tables name it.
        module: of ``experiments.tools``, whose ``quantize`` takes a network, images, the bits of weights and of
            activations, and ``options``.
        package: whose version is recorded.
        bits: the widths that it has for whole convolutional networks.
        sources: of its calibration images; ``own``: made by the tool.
        environment: the virtual environment that it runs in, ``None``: this one.
    """

    title: str
    module: str
    package: str
    bits: tuple[str, ...] = BITS
    sources: tuple[str, ...] = ("distilled",)
    environment: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_images(self) -> bool:
        """Whether its calibration images are compared too, at W8/A8."""
        return set(SOURCES) <= set(self.sources)

    def runs(self, *, photographs: bool) -> list[tuple[str, str]]:
        """(images, bits) of its scores; photographs are for what is compared by images."""
        if photographs:
            return [(source, BITS[0]) for source in self.sources if self.by_images and source != "real"]
        return [
            (source, bits)
            for source in self.sources
            for bits in self.bits
            if bits == BITS[0] or source in ("distilled", OWN)
        ]


TOOLS = {
    "onnxruntime": Tool(
        "onnxruntime, static", "with_onnxruntime", "onnxruntime", ("W8/A8", "W4/A8"), sources=tuple(SOURCES)
    ),
    "nncf": Tool("NNCF (OpenVINO)", "with_nncf", "nncf", ("W8/A8",), sources=tuple(SOURCES)),
    "pt2e": Tool("PT2E (torchao)", "with_pt2e", "torchao", ("W8/A8",), sources=tuple(SOURCES)),
    "mct": Tool(
        "MCT (GPTQ)",
        "with_mct",
        "model-compression-toolkit",
        sources=("distilled", OWN),
        environment="mct",
    ),
    "aimet_seqmse": Tool(
        "AIMET (sequential MSE)",
        "with_aimet",
        "aimet-torch",
        environment="aimet",
        options={"technique": "sequential_mse"},
    ),
    "aimet_adaround": Tool(
        "AIMET (AdaRound, 500 iterations)",
        "with_aimet",
        "aimet-torch",
        environment="aimet",
        options={"technique": "adaround"},
    ),
    "zeroq": Tool("zeroq", "with_zeroq", "torch", options={"method": "zeroq"}),
    "zeroq+": Tool("zeroq+", "with_zeroq", "torch", sources=("distilled", OWN), options={"method": "zeroq+"}),
}


def widths(bits: str) -> tuple[int, int]:
    """The bits of weights and of activations: W4/A8 → (4, 8)."""
    weights, activations = bits.split("/")
    return int(weights[1:]), int(activations[1:])
