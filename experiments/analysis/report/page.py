"""The report: one page that needs nothing but itself."""

import base64
import gzip
from pathlib import Path

import itables
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.analysis.cell import Table
from experiments.analysis.collection import Collection
from experiments.analysis.columns import column_and_settings
from experiments.analysis.report.chart import chart_points, score_chart
from experiments.analysis.report.figures import network_figures
from experiments.analysis.report.tables import choices, table_content
from experiments.core.record import formatted

HERE = Path(__file__).parent
DATA_TABLES = Path(itables.__file__).parent / "html"
GROUPS = (
    "The paper's comparisons, over all networks",
    "All methods, settings and files",
    "The paper's table of each network",
    "Networks that were only reported elsewhere",
)
# Longer tables begin folded.
SHORT = 20


def page(
    collection: Collection, tables: dict[str, Table], figures: Path, *, committed: bool = True, own: Path | None = None
) -> str:
    """The page's HTML.

    ``figures`` is the folder that ``experiments.figures`` has drawn into. The page says where the files of runs are:
    ``committed`` whether there are committed ones, and ``own`` the folder that others work in.
    """
    records = collection.records
    networks = sorted({record["model"] for record in records})
    numbers = {record["run"]: number for number, record in enumerate(records)}
    methods = {column_and_settings(record)[0] for record in records}
    contents = [table_content(name, table, numbers, methods) for name, table in tables.items()]
    points = chart_points(records)
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("template.html").render(
        records=len(records),
        networks=networks,
        methods=methods,
        chart=None if points.empty else score_chart(points, "#choices"),
        groups=grouped(contents),
        choices=choices(contents),
        figures=network_figures(figures, networks),
        runs=[[r["run"], r["seed"], formatted(r["value"], r["metric"])] for r in records],
        committed=committed,
        own=own,
        libraries={name: packed(text) for name, text in libraries().items()},
    )


def grouped(tables: list[dict]) -> list[tuple[str, list[dict]]]:
    """Title → tables, of those titles that have some; the short ones of the first title begin unfolded."""
    found: dict[str, list[dict]] = {title: [] for title in GROUPS}
    for table in tables:
        measured = any(cell["runs"] for row in table["rows"] for cell in row["cells"])
        if table["model"]:
            group = GROUPS[2 if measured else 3]
        else:
            group = GROUPS[0 if table["name"].startswith("paper-") else 1]
        table["open"] = group == GROUPS[0] and len(table["rows"]) <= SHORT
        found[group].append(table)
    return [(title, group) for title, group in found.items() if group]


def libraries() -> dict[str, str]:
    """Name → source of the libraries that draw the chart and filter the tables."""
    return {
        "vega": vl_convert.javascript_bundle(),
        "datatables": (DATA_TABLES / "dt_bundle.js").read_text(),
    }


def packed(source: str) -> str:
    """Text, compressed for a page: browsers decompress gzip themselves."""
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()
