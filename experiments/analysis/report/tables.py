"""What the report shows of a table: its cells, the runs behind them, and what each row and column is about."""

import re
from collections.abc import Mapping

from experiments.analysis.cell import NONE, Cell, Table
from experiments.analysis.columns import COLUMNS, column_order
from experiments.analysis.labels import bits_order
from experiments.analysis.reported import BASELINE

# What a reader can filter by → the column that tells it of a row.
FACETS = {"network": "Network", "bits": "Bits", "method": "Method"}
ORDERS = {"network": str, "bits": bits_order, "method": column_order}
# What the table of calibration images calls a method's column.
CALIBRATED = {column.calibration: column.title for column in COLUMNS if column.calibration}
BITS = re.compile(r"(W|MP)[\d.]+/A\d+")
NUMBER = re.compile(r"[+−-]?\d+(\.\d+)?")


def table_content(name: str, table: Table, numbers: Mapping[str, int], methods: set[str]) -> dict:
    """What the template shows of a table; ``numbers`` are those of the runs, ``methods`` the titles of methods."""
    titles = list(table.frame)
    rows = [dict(zip(titles, row, strict=True)) for row in table.frame.itertuples(index=False, name=None)]
    orders = {title: orders_of([row[title] for row in rows]) for title in titles}
    return {
        "name": name,
        "title": table.title,
        "model": table.model,
        "notes": table.notes,
        "columns": [{"title": title, "facets": column_facets(title, methods)} for title in titles],
        "rows": [
            {
                "facets": row_facets(row, table.model),
                "cells": [
                    {"text": row[title], "order": orders[title][place], "runs": cell_runs(row[title], numbers)}
                    for title in titles
                ],
            }
            for place, row in enumerate(rows)
        ],
    }


def row_facets(row: Mapping[str, str], model: str | None) -> dict[str, str]:
    """What a row is about; a baseline is about no bits and no method, so that it stays beside all of them."""
    found = {facet: str(row[title]) for facet, title in FACETS.items() if title in row}
    if model:
        found["network"] = model
    if "W-bit" in row:
        width = row["W-bit"]
        found["bits"] = f"{'' if width.startswith('MP') else 'W'}{width}/A{row['A-bit']}"
    if found.get("method") == BASELINE:
        del found["method"], found["bits"]
    return found


def column_facets(title: str, methods: set[str]) -> dict[str, str]:
    """What all numbers of a column are about."""
    title = CALIBRATED.get(title, title)
    if title in methods:
        return {"method": title}
    bits = BITS.match(title)
    return {"bits": bits.group()} if bits else {}


def cell_runs(text: str, numbers: Mapping[str, int]) -> list[int]:
    """The numbers of the runs behind a cell."""
    return [numbers[run] for run in text.runs] if isinstance(text, Cell) else []


def orders_of(texts: list[str]) -> list[float | str]:
    """What the cells of a column are sorted by: bits by their width, numbers by their value, others by the alphabet."""
    known = [text for text in texts if text not in (NONE, "")]
    if known and all(BITS.fullmatch(text) for text in known):
        places = {text: place for place, text in enumerate(sorted(set(known), key=bits_order))}
        return [places.get(text, "") for text in texts]
    if known and all(NUMBER.match(text) for text in known):
        return [float(NUMBER.match(text).group().replace("−", "-")) if text in set(known) else "" for text in texts]
    return [""] * len(texts)


def choices(tables: list[dict]) -> dict[str, list[str]]:
    """What rows and columns of some tables are about, of each facet in the order that tables have."""
    found: dict[str, set[str]] = {facet: set() for facet in FACETS}
    for table in tables:
        for part in (*table["rows"], *table["columns"]):
            for facet, value in part["facets"].items():
                found[facet].add(value)
    return {facet: sorted(values, key=ORDERS[facet]) for facet, values in found.items()}
