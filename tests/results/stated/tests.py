"""The numbers of docs/tests.md: floors of coverage, and what became of changed code."""

import json
from collections import Counter
from collections.abc import Iterator

from tests.coverage_floors import FLOORS
from tests.paths import RESULTS

FEWEST_KILLED = 85  # percent


def mutants() -> list[dict]:
    """What was tried: one change of the code each."""
    return [json.loads(line) for line in (RESULTS / "mutants.jsonl").read_text().splitlines()]


def share_killed(found: list[dict]) -> float:
    """In percent."""
    return 100 * sum(mutant["outcome"] == "killed" for mutant in found) / len(found)


def passages() -> Iterator[str]:
    yield from floors()
    found = mutants()
    killed = sum(mutant["outcome"] == "killed" for mutant in found)
    late = sum(mutant.get("led_to_a_test", False) for mutant in found)
    at_first = 100 * (killed - late) / len(found)
    yield f"Of {len(found)} changes they noticed {killed - late}, or {at_first:.1f} %"
    yield f"{late} others led to a test that notices them, which makes {killed}, or {share_killed(found):.1f} %"
    yield f"asks for at least {FEWEST_KILLED} %"
    yield " ".join(by_package(found))
    yield " ".join(survivors(found))


def floors() -> Iterator[str]:
    lines, branches = FLOORS["zeroq"]
    yield f"less is reached than {lines} % of the lines and {branches} % of the branches of `zeroq/`"
    lines, branches = FLOORS["experiments"]
    yield f"or {lines} % and {branches} % of `experiments/`"


def by_package(found: list[dict]) -> Iterator[str]:
    """The rows of the table of packages."""
    rooms = [mutant["file"].split("/")[1] for mutant in found]
    noticed = Counter(room for room, mutant in zip(rooms, found, strict=True) if mutant["outcome"] == "killed")
    for room, changes in sorted(Counter(rooms).items()):
        name = f"`zeroq/{room}`" if room.endswith(".py") else f"`zeroq/{room}/`"
        yield f"| {name} | {changes} | {noticed[room]} |"


def survivors(found: list[dict]) -> Iterator[str]:
    """The rows of the table of changes that no test noticed."""
    left = [mutant for mutant in found if mutant["outcome"] == "survived"]
    for mutant in sorted(left, key=lambda mutant: (mutant["file"], mutant["line"])):
        place = mutant["file"].removeprefix("zeroq/") + (f", {mutant['function']}" if mutant["function"] else "")
        yield f"| {place} | {mutant['operator']} | {mutant['reason']} |"
