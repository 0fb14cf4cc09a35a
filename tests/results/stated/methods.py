"""The numbers of docs/methods.md: settings of the code, and what records say about steps."""

import inspect
import re
from collections.abc import Iterator
from math import sqrt
from statistics import mean

from tests.results.facts import EFFICIENTNET, TITLES, float_score, matching, one, records, score
from tests.results.stated import published_code
from zeroq.distillation import fast, published
from zeroq.images import UNIFORM_LIMIT
from zeroq.methods import method_by_name
from zeroq.mixed_precision.grouped import grouped_frontier

BASELINES = ("naive", "dfq", "omse", "ocs", "aciq", "zeroq")
COMPARED = ("resnet18", "resnet50", "mobilenetv2", "shufflenet", "squeezenext")
BASELINE_WIDTHS = ("W8/A8", "W6/A6", "W4/A8", "W4/A4", "W4/A32")


def passages() -> Iterator[str]:
    default = {name: each.default for name, each in inspect.signature(published.distill).parameters.items()}
    yield f"Adam with learning rate {default['learning_rate']} and {default['iterations']} iterations"
    yield f"after {default['patience']} iterations without progress, down to {default['smallest_learning_rate']}"
    yield f"uniform noise of standard deviation {UNIFORM_LIMIT / sqrt(3):.4f}"
    iterations = inspect.signature(fast.distill_fast).parameters["iterations"].default
    yield f"Gaussian noise of standard deviation {fast.INITIAL_DEVIATION}, in {iterations} iterations"
    yield f"Its pixels stay within {fast.FARTHEST_PIXEL:g} standard deviations"
    search = {name: each.default for name, each in inspect.signature(grouped_frontier).parameters.items()}
    yield f"{search['layers']} layers a group, {search['bins']} bins up to the budget"
    yield f"{search['contenders']} choices a bin"
    yield f"EfficientNet-Lite0 has {channels(EFFICIENTNET, 'next to no weight')} of them"
    assert channels("fashion/mobilenetv2", "high-bias absorption") == 1
    others = [record for record in records() if record["model"] not in ("fashion/mobilenetv2", EFFICIENTNET)]
    assert not any("high-bias absorption where" in reason for record in others for reason in record["skipped_steps"])
    yield "one channel of MobileNetV2 has one"
    yield from published_code.passages()
    yield from baselines()


def baselines() -> Iterator[str]:
    """What each method loses, in points of top-1 on average over the networks that the three ran on."""
    yield f"on average over {', '.join(TITLES[name] for name in COMPARED[:-1])} and {TITLES[COMPARED[-1]]}"
    yield f"input channels, {100 * method_by_name('ocs').expansion:g} % are added"
    added = [one(name, "ocs", "W4/A8")["size_mib"] / one(name, "omse", "W4/A8")["size_mib"] - 1 for name in COMPARED]
    yield f"counts what was added, {100 * min(added):.1f} to {100 * max(added):.1f} % in these narrow networks"
    assert all(0.4 < float(lost(each, "W4/A4")) / float(lost("zeroq", "W4/A4")) < 0.6 for each in ("omse", "aciq"))
    yield f"| method | {' | '.join(BASELINE_WIDTHS)} |"
    for method in BASELINES:
        yield f"| `{method}` | {' | '.join(lost(method, bits) for bits in BASELINE_WIDTHS)} |"


def lost(method: str, bits: str) -> str:
    if not all(matching(name, method, bits) for name in COMPARED):
        return "–"
    return f"{mean(float_score(name) - score(name, method, bits) for name in COMPARED):.2f}".replace("-", "−")


def channels(model: str, step: str) -> int:
    """In how many channels a step was left out, as every record that names it says."""
    reasons = {reason for record in records() if record["model"] == model for reason in record["skipped_steps"]}
    (count,) = {int(re.search(r"channels: (\d+)", reason).group(1)) for reason in reasons if step in reason}
    return count
