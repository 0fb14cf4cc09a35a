"""A table: cells that know their records, and its three formats."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas

from experiments.core.record import formatted
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole

NONE = "–"
SUFFIXES = (".md", ".tex", ".csv")
# How a formula begins; a number may have a sign.
FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]+( |$))")


class Cell(str):
    """Text of a table, with the names of the runs whose records it comes from."""

    runs: tuple[str, ...]

    def __new__(cls, text: str, runs: Iterable[str] = ()):
        cell = super().__new__(cls, text)
        cell.runs = tuple(runs)
        return cell


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with notes at its foot.

    It shows records of the data sets and the model that are named, of all where none is. ``printed`` says whether the
    command shows it in the terminal too.
    """

    title: str
    frame: pandas.DataFrame
    notes: tuple[str, ...] = ()
    dataset: str | None = None
    model: str | None = None
    printed: bool = False

    def markdown(self) -> str:
        """A pipe table under its title, with its notes below."""
        frame = self.frame.map(plain_markdown).rename(columns=plain_markdown)
        lines = [f"**{self.title}**\n", frame.to_markdown(index=False, disable_numparse=True)]
        return "\n".join([*lines, *(f"\n{plain_markdown(note)}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        r"""A table environment with a booktabs tabular (``\usepackage{booktabs}``), its title and its notes."""
        title, *notes = escaped([self.title, *self.notes])
        floating = self.frame.to_latex(index=False, escape=True, caption=title, position="htbp")
        foot = "".join(f"{{\\par\\small {note}\\par}}\n" for note in notes)
        return floating.replace("\\end{table}", f"{foot}\\end{{table}}")

    def write(self, path: Path) -> None:
        """``path`` with the suffixes .md, .tex and .csv; the last holds the rows alone."""
        write_whole(path.with_suffix(".md"), self.markdown())
        write_whole(path.with_suffix(".tex"), self.latex())
        write_whole(path.with_suffix(".csv"), self.csv())

    def csv(self) -> str:
        """The rows, of which no program that opens them takes a text for a formula."""
        return self.frame.map(no_formula).to_csv(index=False)


def plain_markdown(text: str) -> str:
    """A text that ends no cell, and holds no HTML, link or picture."""
    return " ".join(text.split("\n")).replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(")


def no_formula(text: str) -> str:
    """A text behind an apostrophe, where a spreadsheet would compute it."""
    return f"'{text}" if FORMULA.match(text) else text


def escaped(texts: list[str]) -> list[str]:
    """Texts as LaTeX writes them."""
    cells = pandas.DataFrame({"text": texts}).to_latex(index=False, header=False, escape=True)
    return [line.removesuffix(r" \\") for line in cells.splitlines() if line.endswith(r"\\")]


def frame_of(rows: list[dict[str, str]]) -> pandas.DataFrame:
    """A frame that keeps its cells as they are (pandas would turn them into plain text)."""
    return pandas.DataFrame(rows, dtype=object)


def without_empty_settings(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table, without its column Settings where every row has the defaults."""
    return table if table.empty or table["Settings"].any() else table.drop(columns="Settings")


def mean_and_deviation(values: pandas.Series, metric: str) -> str:
    """The mean, with ± standard deviation and count where there are several values, – where there is none."""
    if values.empty:
        return NONE
    spread = f" ± {formatted(values.std(), metric)} ({len(values)})" if len(values) > 1 else ""
    return formatted(values.mean(), metric) + spread


def mean_cell(records: pandas.DataFrame) -> Cell:
    """The mean score over seeds, as ``mean_and_deviation``."""
    if records.empty:
        return Cell(NONE)
    if not records.seed.is_unique:
        raise ZeroQError(f"{', '.join(records.run)} are several runs of one seed; leave all but one of them out")
    return Cell(mean_and_deviation(records.value, records.metric.iloc[0]), records.run)


def float_cell(records: pandas.DataFrame) -> Cell:
    """The float network's score."""
    first = records.iloc[0]
    return Cell(formatted(first.fp32_value, first.metric), [first.run])


def size_cell(records: pandas.DataFrame) -> Cell:
    """The largest size of some runs: a plan's own differs a little between seeds."""
    return Cell(mib(records.size_mib.max()), records.run)


def mib(size: float) -> str:
    """A size as tables show it, – where it is not known."""
    return NONE if pandas.isna(size) else f"{size:.2f}"
