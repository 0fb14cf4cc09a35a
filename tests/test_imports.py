"""Imports lead down: from commands to what they are made of, and in the library from a method to its parts."""

import ast
from graphlib import TopologicalSorter

from tests.paths import ROOT

# From the bottom to the top. What stands on one line knows nothing of each other.
METHOD = (
    ("zeroq.errors",),
    ("zeroq.memory", "zeroq.whole", "zeroq.borrowing"),
    ("zeroq.layers",),
    ("zeroq.parallel", "zeroq.modules", "zeroq.images"),
    ("zeroq.graph",),
    ("zeroq.quantization",),
    ("zeroq.rounding",),
    ("zeroq.distillation",),
    ("zeroq.mixed_precision",),
    ("zeroq.settings", "zeroq.stages"),
    ("zeroq.methods", "zeroq.planning"),
    ("zeroq.baselines",),
    ("zeroq.work",),
    ("zeroq.pipeline",),
    ("zeroq.zero_shot",),
)
EXPERIMENTS = (
    ("experiments.core",),
    ("experiments.analysis",),
    ("experiments.cli",),
    ("experiments.benchmarks", "experiments.training", "experiments.tools", "experiments.architectures"),
)
# A method knows neither the networks that come with the library nor data sets, and these know no method.
BASE = {"zeroq.errors", "zeroq.memory", "zeroq.borrowing", "zeroq.layers"}
BASE |= {"zeroq.parallel", "zeroq.modules", "zeroq.images"}
BESIDE = {
    "zeroq.networks": BASE,
    "zeroq.datasets": {*BASE, "zeroq.networks"},
    "zeroq.evaluation": BASE,
    "zeroq.export": {*BASE, "zeroq.graph", "zeroq.quantization"},
}
ROOMS = ("zeroq", "experiments", "tests")
LONGEST, LONGEST_COMMAND = 350, 100  # lines


def below(ladder: tuple[tuple[str, ...], ...]) -> dict[str, set[str]]:
    """The rooms that each room of a ladder may import besides itself."""
    return {room: set().union(*ladder[:height]) for height, rung in enumerate(ladder) for room in rung}


LIBRARY = {**below(METHOD), **BESIDE}
ALLOWED = {
    **LIBRARY,
    "zeroq": set(LIBRARY),  # its names
    "zeroq.command": set(LIBRARY),
    "zeroq.__main__": {"zeroq.command"},
    **{room: {*rooms, *LIBRARY, "zeroq"} for room, rooms in below(EXPERIMENTS).items()},
}
FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for package in ("zeroq", "experiments")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """The project's modules that a module imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys() or {node.module}
    return (found & FILES.keys()) - {module}


def room(module: str) -> str:
    """Where a module is: its package, or where it is in none, the file itself, as each command is."""
    return ".".join(module.split(".")[:2])


GRAPH = {module: imports(module) for module in FILES}


def test_every_room_has_its_place():
    commands = {f"experiments.{path.stem}" for path in (ROOT / "experiments").glob("*.py")}
    assert {room(module) for module in FILES} <= {*ALLOWED, *commands, "experiments"}


def test_no_import_leads_up():
    for module, imported in GRAPH.items():
        own = room(module)
        allowed = ALLOWED.get(own, ALLOWED.keys()) | {own}  # a command imports all but commands
        assert {each for each in imported if room(each) not in allowed} == set(), module


def test_no_circle():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError


def test_files_can_be_read_in_a_sitting():
    lengths = {path: len(path.read_text().splitlines()) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [str(path) for path, length in lengths.items() if length > LONGEST] == []
    assert [str(path) for path in (ROOT / "experiments").glob("*.py") if lengths[path] > LONGEST_COMMAND] == []
