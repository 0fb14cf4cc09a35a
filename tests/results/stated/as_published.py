"""The table of docs/results.md of the published pipeline as it was run."""

from collections.abc import Iterator

from tests.results.facts import TITLES, score

NETWORKS = ("resnet18", "resnet50")
IMAGES = {"gaussian": "noise", "zeroq": "distilled", "real": "training"}
BITS = ("W8/A8", "W6/A6", "MP6/A6", "MP4/A8", "W4/A8", "W4/A4")


def passages() -> Iterator[str]:
    yield "its recipe, 64 images, one seed"
    for network in NETWORKS:
        for method, images in IMAGES.items():
            cells = [f"{as_run(network, method, bits):.2f}" for bits in BITS]
            yield f"| {TITLES[network]} | {images} | {' | '.join(cells)} |"
        noise, distilled, real = (as_run(network, method, "W4/A4") for method in IMAGES)
        if noise > max(distilled, real):
            yield "at W4/A4 noise is above both"


def as_run(network: str, method: str, bits: str) -> float:
    found = score(network, method, bits, {"distill.count": "64"}, placement="after_relu")
    return float(found.values[0])
