"""README and docs: their numbers are the committed records', their Python runs, and what they name is there."""

import re
import subprocess
import tomllib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import hydra
import pytest
import torch

from experiments.analysis.tables import tables
from experiments.core.choices import CONF
from tests.networks import narrow_resnet10
from tests.paths import ROOT
from tests.results.facts import committed
from zeroq.command.main import parser

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LARGEST_README = 10_240
LONGEST_LINE = 120
FENCED = re.compile(r"```(\w*)\n(.*?)```", flags=re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A measured number: a decimal, or an integer of a unit.
NUMBER = re.compile(r"[−-]?\d[\d,]*\.\d+|\d+ (?:%|points|MiB|mAP|GFLOP)")
# Files that runs make are not committed.
MADE = ("outputs/",)
FOLDERS = ("zeroq/", "experiments/", "conf/", "tests/", "docs/", "results/")


def named(documents: list[Path]):
    return pytest.mark.parametrize("document", documents, ids=lambda path: path.stem)


def spaced(text: str) -> str:
    """With one space for each run of white space: sentences may be wrapped anywhere."""
    return re.sub(r"\s+", " ", text)


# Python


def smaller(code: str) -> str:
    """The same with a network of fewer and narrower layers and a smaller input, for the sake of time."""
    found, count = re.subn(r"(torchvision\.)?models\.resnet18\(\)", "narrow_resnet10()", code)
    assert count == 1
    return found.replace("224, 224)", "64, 64)")


def test_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    block, _ = [code for language, code in FENCED.findall(README) if language == "python"]
    assert len([line for line in block.splitlines() if line.strip()]) <= 6
    exec(smaller(block).replace("64, 64)", "64, 64), iterations=5, count=4"), {"narrow_resnet10": narrow_resnet10})
    assert "weight_scale" in "".join(torch.load(tmp_path / "quantized.pt", weights_only=True))


def test_a_checkpoint_becomes_a_file_in_ten_lines(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    _, block = [code for language, code in FENCED.findall(README) if language == "python"]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    block = smaller(block)
    torch.manual_seed(0)  # an untrained network's plan depends on its weights
    torch.save(narrow_resnet10().state_dict(), "mine.pt")
    found: dict = {"narrow_resnet10": narrow_resnet10}
    exec(block.replace('"integer")', '"integer", iterations=3, count=4)'), found)
    assert "MiB, in float: {}" in capsys.readouterr().out
    # An eighth of the weights, for 4 bits on average, what stays float, and the graph of so small a network.
    assert (tmp_path / "quantized.onnx").stat().st_size < 0.18 * (tmp_path / "float.onnx").stat().st_size
    assert [len(each) > 1 for each in found["times"]] == [True, True]


# Numbers


@pytest.fixture(scope="module")
def own_tables() -> dict:
    return tables(committed())


def test_tables_are_those_of_the_records(own_tables):
    assert {path.stem for path in (ROOT / "results" / "tables").glob("[!.]*")} == own_tables.keys()
    for name, table in own_tables.items():
        written = ROOT / "results" / "tables" / name
        assert written.with_suffix(".md").read_text() == table.markdown()
        assert written.with_suffix(".tex").read_text() == table.latex()
        assert written.with_suffix(".csv").read_text() == table.csv()


def tables_of_networks(text: str) -> list[str]:
    """The tables that stand in a document as the records give them."""
    return re.findall(r"(?m)^\| Network .*(?:\n\|.*)+", text)


def test_tables_in_the_results_are_those_of_the_records(own_tables):
    shown = tables_of_networks((ROOT / "docs" / "results.md").read_text())
    assert len(shown) == 2
    assert {table.frame.to_markdown(index=False, disable_numparse=True) for table in own_tables.values()} >= set(shown)


@cache
def passages(document: Path) -> list[str]:
    """What a document must say, made from the records."""
    module = f"tests.results.stated.{document.stem.lower()}"
    return list(map(spaced, import_module(module).passages())) if find_spec(module) else []


@named(DOCUMENTS)
def test_documents_say_what_the_records_say(document):
    text = spaced(document.read_text())
    assert [passage for passage in passages(document) if passage.strip() not in text] == []


@named(DOCUMENTS)
def test_no_number_stands_without_its_record(document):
    text = document.read_text()
    for table in tables_of_networks(text):
        text = text.replace(table, "")
    text = spaced(FENCED.sub("", text))
    for passage in passages(document):
        text = text.replace(passage.strip(), "")
    text = LINK.sub("", SPAN.sub("", text))
    assert [text[max(0, found.start() - 60) : found.end() + 20] for found in NUMBER.finditer(text)] == []


# Form


def test_the_readme_is_read_in_five_minutes():
    assert len(README.encode()) <= LARGEST_README


@named(DOCUMENTS)
def test_lines_fit_on_a_screen(document):
    prose = [line for line in document.read_text().splitlines() if not line.startswith(("|", "<"))]
    assert [line for line in prose if len(line) > LONGEST_LINE] == []


# What is named


def anchors(document: Path) -> set[str]:
    """The headings of a page, as its links name them."""
    headings = re.findall(r"(?m)^#+ (.*)", FENCED.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named(DOCUMENTS)
def test_links_lead_somewhere(document):
    text = FENCED.sub("", document.read_text())
    targets = [*LINK.findall(text), *re.findall(r'src="([^"]+)"', text)]
    missing = []
    for target in targets:
        path, _, anchor = target.partition("#")
        page = (document.parent / path).resolve() if path else document
        if target.startswith("https://"):
            continue
        if not page.exists() or (anchor and anchor not in anchors(page)):
            missing.append(target)
    assert missing == []


@named(DOCUMENTS)
def test_files_that_are_named_are_there(document):
    text = FENCED.sub("", document.read_text())
    paths = [span for span in SPAN.findall(text) if span.startswith(FOLDERS) and not re.search(r"[<…*=\s]", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_tree_is_the_repository_s():
    (tree,) = [block for _, block in FENCED.findall(README) if block.startswith("zeroq/")]
    room, missing = "", []
    for line in tree.splitlines():
        names = re.findall(r"[\w.]+/(?=\s|$)", line.partition("   ")[0] if line[0] != " " else line)
        room = names[0] if line[0] != " " else room
        folders = names if line[0] != " " else [room + name for name in names]
        missing += [folder for folder in folders if folder not in MADE and not (ROOT / folder).is_dir()]
    assert missing == []
    assert len(tree.splitlines()) <= 21


# Commands


def commands() -> list[str]:
    """Every command line of the documents, in blocks and in sentences."""
    found = set()
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = [block.replace("\\\n", "") for language, block in FENCED.findall(text) if not language]
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [spaced(span) for span in SPAN.findall(FENCED.sub("", text))]
        found |= {line.partition("#")[0].strip() for line in lines if re.match(r"(python|make|pip|source) ", line)}
    return sorted(line for line in found if not re.search(r"NAME|FOLDER", line))


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line):
    program, *words = line.replace("'", "").split()
    if program == "make":
        target, *variables = words
        made = subprocess.run(["make", "-n", target, *variables], cwd=ROOT, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    elif program == "pip":
        names = re.fullmatch(r'"?\.(?:\[(\w+)\])?"?', words[-1])
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
        assert not names[1] or names[1] in extras
    elif program == "source":
        assert words[0] == ".venv/bin/activate" or (ROOT / words[0]).exists()
    elif words[:2] == ["-m", "zeroq"]:
        assert not words[2:] or parser().parse_args(words[2:])
    elif words[:2] == ["-m", "experiments.run"]:
        composes([word for word in words[2:] if not word.startswith("-")])
    else:
        usage = import_module(words[1]).__doc__
        assert [word for word in words[2:] if f"{word.partition('=')[0]}=" not in usage] == []


def composes(words: list[str]) -> None:
    """Compose the configuration of each choice of a command line."""
    choices = [(key, re.split(r",(?![^\[]*\])", value)) for key, _, value in (word.partition("=") for word in words)]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for key, values in choices:
            for value in values:
                others = [f"{other}={first[0]}" for other, first in choices if other != key]
                # A launcher, and a search's sweeper, want a plugin that not everyone installs.
                if key.startswith("hydra/") or value.startswith("search/"):
                    assert (CONF / key / f"{value}.yaml").exists()
                else:
                    hydra.compose("config", [*others, f"{key}={value}"])


def settings() -> list[str]:
    """Every setting with a value, as ``placement=integer``, that the documents name."""
    spans = {span for document in DOCUMENTS for span in SPAN.findall(FENCED.sub("", document.read_text()))}
    found = {span.strip("'") for span in spans if re.fullmatch(r"'?[a-z][\w./]*=[^…\s\"(]+'?", span)}
    # Not of the configuration: words for the reader, arguments of functions, folders.
    others = r"NAME|FOLDER|PATH|^(limits|count|iterations|recipe|mixed)="
    return sorted(each for each in found if not re.search(others, each))


@pytest.mark.parametrize("setting", settings())
def test_settings_are_there(setting):
    composes([setting])
