"""The figures: each module of this folder makes one kind from the records, and a new one is found by being here.

A module has ``ORDER``, its place among the others, and ``figures(collection)``.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from experiments.analysis.collection import Collection
from experiments.analysis.style import NamedFigure


class FigureModule(Protocol):
    """What a module of this folder offers."""

    ORDER: int

    def figures(self, collection: Collection) -> Iterator[NamedFigure]:
        """The words that name each figure, and what draws it."""


def modules() -> list[FigureModule]:
    """The modules of this folder, in their order."""
    imported = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted(imported, key=lambda module: (module.ORDER, module.__name__))


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """Every figure that the records allow.

    Drawing one raises OSError, ValueError or LookupError where a file of its runs cannot be read.
    """
    for module in modules():
        yield from module.figures(collection)
