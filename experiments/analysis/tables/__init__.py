"""The tables: each module of this folder makes its own from the records, and a new one is found by being here.

A module has ``ORDER``, its place among the others, and ``tables(records)``: name → table, empty where no record fits.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from experiments.analysis.cell import Table
from experiments.analysis.collection import Collection


class TableModule(Protocol):
    """What a module of this folder offers."""

    ORDER: int

    def tables(self, records: list[dict]) -> Mapping[str, Table]:
        """Name → table; the name is that of its files."""


def modules() -> list[TableModule]:
    """The modules of this folder, in their order."""
    imported = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted(imported, key=lambda module: (module.ORDER, module.__name__))


def tables(collection: Collection) -> dict[str, Table]:
    """Name → table, for all that the records allow; what was left out of each stands at its foot."""
    return {
        name: with_omissions(table, collection)
        for module in modules()
        for name, table in module.tables(collection.records).items()
    }


def with_omissions(table: Table, collection: Collection) -> Table:
    """The table, with what was left out at its foot: records that belong there, and those that could not be read."""
    notes = [
        f"{str(omission)[0].upper()}{str(omission)[1:]}."
        for omission in collection.omissions
        if omission.dataset in (None, table.dataset or omission.dataset)
        and omission.model in (None, table.model or omission.model)
    ]
    return replace(table, notes=(*table.notes, *notes))
