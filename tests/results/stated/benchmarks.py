"""The numbers of docs/benchmarks.md."""

import json
from collections.abc import Iterator
from functools import cache
from statistics import median

import pandas
import torch

from experiments.benchmarks.cases import load, products
from experiments.benchmarks.table import spread
from experiments.benchmarks.timing import Timing
from tests.paths import RESULTS
from tests.results.facts import BUNDLED, CLASSIFIERS, EFFICIENTNET, FAST, one, score, sensitivities

FEW = ("resnet18", "mobilenetv2", "squeezenext")
ESTIMATED = FAST | {"sensitivity": "estimated"}


@cache
def content() -> dict:
    return json.loads((RESULTS / "benchmarks" / "cpu.json").read_text())


def timings(stage: str) -> list[Timing]:
    """Those of a stage, the bundled networks' in the order of the paper."""
    order = [*(f"fashion/{name}" for name in BUNDLED), EFFICIENTNET, "random"]
    found = [Timing(**each) for each in content()["timings"] if each["stage"] == stage]
    return sorted(found, key=lambda timing: (order.index(timing.network), timing.size))


def timing(stage: str, network: str) -> Timing:
    (found,) = [each for each in timings(stage) if each.network == network]
    return found


def passages() -> Iterator[str]:
    yield from machine()
    yield from ratios()
    yield from frontier_and_waiting()
    yield from fast_images()
    yield from estimated_sensitivities()
    yield from missed()


def machine() -> Iterator[str]:
    (threads, processor) = (content()["machine"][key] for key in ("threads", "processor"))
    counts = {len(each["seconds"]) for each in content()["timings"] if not each["stage"].startswith("sensitivity")}
    assert counts == {5}
    counts = {len(each["seconds"]) for each in content()["timings"] if each["stage"].startswith("sensitivity")}
    assert counts == {3, 5}
    yield f"{threads} threads of an {processor}, with nothing heavy beside them: 5 repetitions, 3 of most sensitivities"
    yield f"{content()['machine']['GFLOP/s']:.0f} GFLOP/s"


def ratios() -> Iterator[str]:
    beginnings = {
        "distill": "| `distill=fast` | the published recipe |",
        "sensitivity, exact": "| sensitivity, exact | a full forward for each layer and width |",
        "sensitivity, estimated": "| `sensitivity=estimated` | the same |",
        "evaluate, layer_inputs": "| evaluation, `layer_inputs` | the float network's forward |",
        "evaluate, after_relu": "| evaluation, `after_relu` | the same |",
    }
    for stage, beginning in beginnings.items():
        found = timings(stage)
        (aim,) = {each.aim for each in found}
        shares = (f"{each.network.partition('/')[2]} {spread(each.ratios)}" for each in found)
        yield f"{beginning} {', '.join(shares)} | {aim} |"


def frontier_and_waiting() -> Iterator[str]:
    (found,) = [each for each in timings("frontier") if each.size.startswith("500 layers × 7 widths")]
    seconds = f"{median(found.seconds):.2f} s ({min(found.seconds):.2f} to {max(found.seconds):.2f})"
    yield f"500 layers with 7 widths each takes {seconds} and {found.peak_mib:.0f} MiB"
    yield f"That is {median(found.ratios):.1f} times the time of one integer program"
    small, photographs = (
        timing("evaluate, all of the test set", name) for name in ("fashion/mobilenetv2", EFFICIENTNET)
    )
    waits = [100 * median(each.found["share of the time that the network waits"]) for each in (small, photographs)]
    yield f"Fashion-MNIST's 10,000 images take a quantized mobilenetv2 {median(small.seconds):.1f} s"
    yield f"of which it waits {waits[0]:.0f} % for them; EfficientNet-Lite0 waits {waits[1]:.0f} % for"


def fast_images() -> Iterator[str]:
    losses = {}
    for name in FEW:
        found = timing("distill", f"fashion/{name}")
        losses[name] = " and ".join(f"{median(each['loss']):.2f}" for each in (found.found, found.reference_found))
    yield ", ".join(f"{losses[name]} on {name}" for name in FEW)
    lost = score("resnet18", "zeroq", "W4/A8") - score("resnet18", "zeroq", "W4/A8", FAST)
    yield f"{lost * 100:.0f} of 10,000 images"
    for name in FEW:
        cells = [score(name, "zeroq", bits, own) for bits in ("W4/A8", "W4/A4") for own in (FAST, {})]
        assert all(len(cell.values) == 5 for cell in cells)
        assert cells[2] > cells[3]
        yield f"| {name} | {' | '.join(map(str, cells))} |"


def estimated_sensitivities() -> Iterator[str]:
    correlations, differences = [], {}
    for name in BUNDLED:
        exact, estimated = (
            pandas.Series(sensitivities(one(name, "zeroq", "MP4/A8", own)).to_numpy().ravel())
            for own in (FAST, ESTIMATED)
        )
        correlations.append(exact.corr(estimated, method="spearman"))
        differences[name] = abs(score(name, "zeroq", "MP4/A8", FAST) - score(name, "zeroq", "MP4/A8", ESTIMATED))
    yield f"the Spearman correlation is {min(correlations):.3f} to {max(correlations):.3f} on the eight bundled"
    others = max(differences[name] for name in CLASSIFIERS if name != "resnet18")
    yield f"differ by {others:.2f} points at most on six classifiers, by {differences['resnet18']:.2f} on resnet18"
    assert differences["retinanet"] < 0.001
    yield "by less than 0.001 mAP on RetinaNet"


def missed() -> Iterator[str]:
    found = {each.network: each for each in timings("sensitivity, exact")}
    shares = {name: median(each.ratios) for name, each in found.items()}
    kept = [share for name, share in shares.items() if share <= found[name].aim]
    assert len(kept) == 7
    assert len(shares) == 9
    yield f"aim at {found[EFFICIENTNET].aim} of the full forwards"
    yield f"seven of nine networks keep it ({min(kept):.2f} to {max(kept):.2f})"
    small, detector = "fashion/resnet18", "fashion/retinanet"
    yield f"RetinaNet takes {shares[detector]:.2f} and resnet18 {shares[small]:.2f}"
    yield f"{repeated_share(detector):.2f} of the network in RetinaNet and {repeated_share(small):.2f} in resnet18"
    exact, estimated = (timing(f"sensitivity, {mode}", EFFICIENTNET) for mode in ("exact", "estimated"))
    full = [median(each.reference_seconds) for each in (exact, estimated)]
    yield f"took {full[0]:.1f} s beside the exact mode and {full[1]:.1f} s beside the estimated one"
    yield f"the exact mode takes {median(exact.seconds) / full[1]:.2f}"
    evaluation = timing("evaluate, layer_inputs", EFFICIENTNET)
    yield f"takes {median(evaluation.ratios):.2f} times the float forward (aim {evaluation.aim})"


def repeated_share(name: str) -> float:
    """The share of a network's floating-point operations behind a layer, itself included: the mean over layers."""
    work = list(products(load(name), torch.device("cpu"), 1).values())
    return sum(sum(work[index:]) for index in range(len(work))) / len(work) / sum(work)
