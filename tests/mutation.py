"""Which changes of the code the tests notice: python -m tests.mutation [PACKAGE …] (hours; goes on where it stopped).

Mutants are drawn by cosmic-ray's operators, as many of each file, and each is tried on the packages' test files that
reach its line. What became of them is written to ``results/mutants.jsonl``, one line each; a line that is removed is
tried again, and those of a file that changed are to be removed. A survivor's ``reason`` is written by hand.
"""

import ast
import contextlib
import importlib
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.paths import RESULTS, ROOT

PACKAGES = ("quantization", "mixed_precision", "distillation", "export", "rounding")
ALONE = "images.py"  # beside the packages
PER_FILE = 6
SEED = 0
OUTCOMES = RESULTS / "mutants.jsonl"
REACHED = ROOT / "outputs" / "mutation"
OWN = ("zeroq", "experiments", "tests", "conftest", "__main__")
ENOUGH = 60  # seconds of tests beside the mirrored file, the quickest first
SLOWER = 5  # times an unchanged run: a mutant that takes longer hangs
LONGEST = 3600  # seconds of a test file


# What is drawn


class Behaviour(ast.NodeTransformer):
    """Removes what no test is to notice: annotations, how arguments may be passed, and the words of errors."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        node.args, node.posonlyargs, node.kwonlyargs = [*node.posonlyargs, *node.args, *node.kwonlyargs], [], []
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        return ast.Raise(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)


def behaviour(code: str) -> str:
    """What is the same for code that does the same but for annotations and words of errors."""
    return ast.dump(Behaviour().visit(ast.parse(code)))


def files(packages: Sequence[str]) -> list[Path]:
    """What is mutated."""
    library = ROOT / "zeroq"
    found = [path for package in packages for path in (library / package).glob("*.py")]
    return sorted(path for path in (*found, library / ALONE) if path.read_text().strip())


def mutants(file: Path) -> Iterator[dict]:
    """Every mutant of a file that is Python and differs in behaviour, in the order in which they are drawn."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.ast.ast_query import ASTQuery
    from cosmic_ray.plugins import get_operator, operator_names

    code = file.read_text()
    unchanged = behaviour(code)
    nodes, drawn = list(ast_nodes(get_ast(code))), []
    for name in operator_names():
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, (line, _)) in enumerate(places):
            function = ASTQuery(node).get_definition_name()
            drawn.append(
                {
                    "file": str(file.relative_to(ROOT)),
                    "line": line,
                    "function": function,
                    "operator": name.removeprefix("core/"),
                    "occurrence": occurrence,
                }
            )
    random.Random(SEED).shuffle(drawn)
    for mutant in drawn:
        try:
            changed = behaviour(mutated(mutant))
        except (SyntaxError, AttributeError):  # cosmic-ray does not change `except module.Error`
            continue
        if changed != unchanged:
            yield mutant


def mutated(mutant: dict) -> str:
    """The code of a mutant's file."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator(f"core/{mutant['operator']}")()
    return mutate_code((ROOT / mutant["file"]).read_text(), operator, mutant["occurrence"])


def sample(packages: Sequence[str]) -> Iterator[dict]:
    """The first of every file, then the second of every file: what is tried first is even too."""
    by_file = [itertools.islice(mutants(file), PER_FILE) for file in files(packages)]
    return (mutant for each in itertools.zip_longest(*by_file) for mutant in each if mutant)


# What is run


def in_a_process(work: Callable[[], int], limit: float) -> int:
    """The exit status of ``work`` in a process of its own, which is ended after ``limit`` seconds."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            signal.alarm(round(limit))
            silent = os.open(os.devnull, os.O_WRONLY)
            for shown in (1, 2):
                os.dup2(silent, shown)
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_tests(*arguments: str, plugins: Sequence[object] = ()) -> int:
    """pytest's exit status, 0 where every test passes."""
    return pytest.main([*arguments, "-q", "-n", "0", "-p", "no:cacheprovider"], plugins)


class Failures(list):
    """The names of the tests that fail."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.append(report.nodeid)


def import_libraries() -> None:
    """Import what the tests import, but for the project's own, once for all the processes that will run them."""
    written = REACHED / "libraries.json"

    def name_them() -> int:
        run_tests("--collect-only", *(str(ROOT / "tests" / "zeroq" / name) for name in PACKAGES))
        written.write_text(json.dumps([name for name in sys.modules if name.partition(".")[0] not in OWN]))
        return 0

    if not written.exists():
        in_a_process(name_them, LONGEST)
    for name in json.loads(written.read_text()):
        with contextlib.suppress(Exception):  # some can be imported only in a test's process
            importlib.import_module(name)


def reach(packages: Sequence[str]) -> dict[str, dict]:
    """Each test file → its seconds, the lines of the library that it runs, and which tests fail on unchanged code."""
    import coverage

    def measure(test: str, written: Path) -> int:
        measured = coverage.Coverage(data_file=None, config_file=False, source=[str(ROOT / "zeroq")])
        started, failing = time.monotonic(), Failures()
        with measured.collect():
            run_tests(test, plugins=[failing])
        data = measured.get_data()
        lines = {str(Path(file).relative_to(ROOT)): sorted(data.lines(file)) for file in data.measured_files()}
        found = {"seconds": time.monotonic() - started, "lines": lines, "failing": failing}
        written.write_text(json.dumps(found))
        return 0

    found = {}
    folder = ROOT / "tests" / "zeroq"
    paths = [path for package in packages for path in (folder / package).glob("test_*.py")]
    for path in sorted((*paths, folder / f"test_{ALONE}")):
        test = str(path.relative_to(ROOT))
        written = REACHED / f"{test.replace('/', '-')}.json"
        if not written.exists():
            in_a_process(partial(measure, test, written), LONGEST)
            print(test, json.loads(written.read_text())["failing"] or "", flush=True)
        found[test] = json.loads(written.read_text())
    return found


def tests_of(mutant: dict, reached: dict[str, dict]) -> list[list[str]]:
    """The mirrored test file, then others that reach the line, the quickest first, until it is ``ENOUGH``."""
    runs = {test: set(each["lines"].get(mutant["file"], ())) for test, each in reached.items()}
    # A statement of several lines may count as its first.
    line = max((line for line in set().union(*runs.values()) if line <= mutant["line"]), default=0)
    near = [test for test in runs if line in runs[test]]
    path = Path(mutant["file"])
    mirror = str(Path("tests", path.parent, f"test_{path.name}"))
    others, seconds = [], 0.0
    for test in sorted(set(near) - {mirror}, key=lambda test: reached[test]["seconds"]):
        if seconds < ENOUGH:
            others.append(test)
        seconds += reached[test]["seconds"]
    return [group for group in ([mirror] if mirror in near else [], others) if group]


class Mutated(SourceFileLoader):
    """Finds one module, with other code than its file's."""

    def __init__(self, mutant: dict) -> None:
        path = ROOT / mutant["file"]
        super().__init__(".".join(Path(mutant["file"]).with_suffix("").parts), str(path))
        self.code = compile(mutated(mutant), str(path), "exec", dont_inherit=True)

    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, name):
        return self.code


def outcome(mutant: dict, reached: dict[str, dict]) -> str:
    """``killed`` where a test fails or hangs, else ``survived``."""

    def work() -> int:
        sys.meta_path.insert(0, Mutated(mutant))
        left_out = (f"--deselect={name}" for test in tests for name in reached[test]["failing"])
        return run_tests("-x", *tests, *left_out)

    for tests in tests_of(mutant, reached):
        if in_a_process(work, 30 + SLOWER * sum(reached[test]["seconds"] for test in tests)):
            return "killed"
    return "survived"


def identity(mutant: dict) -> tuple[str, str, int]:
    """What tells a mutant from all others of the same code."""
    return mutant["file"], mutant["operator"], mutant["occurrence"]


def main() -> None:
    packages = sys.argv[1:] or PACKAGES
    if unknown := set(packages) - set(PACKAGES):
        sys.exit(f"error: no package {min(unknown)!r}; there are {', '.join(PACKAGES)}")
    if find_spec("cosmic_ray") is None:
        sys.exit('error: cosmic-ray is not installed; pip install -e ".[mutation]"')
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    REACHED.mkdir(parents=True, exist_ok=True)
    import_libraries()
    reached = reach(packages)
    done = {identity(json.loads(line)) for line in OUTCOMES.read_text().splitlines()} if OUTCOMES.exists() else set()
    for mutant in sample(packages):
        if identity(mutant) not in done:
            mutant["outcome"] = outcome(mutant, reached)
            with OUTCOMES.open("a") as file:
                file.write(json.dumps(mutant) + "\n")
            print(mutant, flush=True)


if __name__ == "__main__":
    main()
