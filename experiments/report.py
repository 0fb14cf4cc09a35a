"""One page with every table and figure, each number linked to its record.

    python -m experiments.report [results=FOLDER]

It reads the records and the figures that ``experiments.figures`` has drawn, and writes ``report.html`` into the folder:
a single file that needs no network.
"""

import base64
import sys
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from experiments.analysis.cell import Cell, Table
from experiments.analysis.collection import from_folders
from experiments.analysis.tables import tables
from experiments.cli.words import output_folder, results_argument
from zeroq.errors import ZeroQError

# Figures are drawn for print; on a screen they are shown at a third of their pixels.
SHRUNK = 3


def page(found: dict[str, Table], figures: Path, records: int, networks: list[str]) -> str:
    """The page's HTML; ``networks`` are the names that figures' files begin with, with / for -."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "analysis"), autoescape=True)
    template = environment.get_template("report_template.html")
    return template.render(
        records=records,
        tables=[table_content(name, table) for name, table in found.items()],
        networks=network_figures(figures, networks),
    )


def table_content(name: str, table: Table) -> dict:
    """What the template shows of a table."""
    rows = [
        [{"text": value, "runs": [f"runs/{quote(run)}/record.json" for run in runs_of(value)]} for value in row]
        for row in table.frame.itertuples(index=False, name=None)
    ]
    return {"name": name, "title": table.title, "columns": list(table.frame), "rows": rows, "notes": table.notes}


def runs_of(value: str) -> tuple[str, ...]:
    """The runs behind a cell."""
    return value.runs if isinstance(value, Cell) else ()


def network_figures(folder: Path, networks: list[str]) -> list[dict]:
    """The figures of each network, as data that stand in the page itself."""

    def network_of(path: Path) -> str:
        fitting = [name for name in networks if path.stem.startswith(f"{name.replace('/', '-')}-")]
        return max(fitting, key=len, default="")

    paths = sorted(folder.glob("*.png"), key=lambda path: (network_of(path), path.name))
    found = []
    for network, group in groupby(paths, network_of):
        figures = [figure_content(path, path.stem.removeprefix(f"{network.replace('/', '-')}-")) for path in group]
        if network:
            found.append({"name": network, "anchor": network.replace("/", "-"), "figures": figures})
    return found


def figure_content(path: Path, name: str) -> dict:
    """A figure's bytes, and its size on the page."""
    with Image.open(path) as image:
        width, height = (side // SHRUNK for side in image.size)
    return {"name": name, "data": base64.b64encode(path.read_bytes()).decode(), "width": width, "height": height}


def main() -> None:
    results = results_argument(sys.argv[1:], __doc__)
    try:
        collection = from_folders(results=results)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    target = output_folder(results) / "report.html"
    networks = sorted({record["model"] for record in collection.records})
    target.write_text(page(tables(collection), results / "figures", len(collection.records), networks))
    print(f"Written to {target}")


if __name__ == "__main__":
    main()
