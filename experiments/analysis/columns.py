"""The methods as tables and figures show them: one row a column, in the order of the columns.

A method without a row has a column too, behind the others, with its own name as title.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.analysis.labels import extra_settings

# The files of a run that show its calibration images.
DISTILLED, GIVEN = "distilled.png", "calibration.png"


@dataclass(frozen=True)
class Column:
    """A method, or a variant of one that its settings make, and how it looks."""

    # With a star behind for what needs data.
    title: str
    # As records name it; nothing for what was only reported by others.
    method: str = ""
    # Those that make it a column of its own.
    settings: Mapping[str, str] = field(default_factory=dict)
    color: str = "#444444"
    # How figures call its calibration images, and the run's files that may show them; none where they are not shown.
    images: str = ""
    pictures: tuple[str, ...] = ()
    # Its title in the table of what calibration images are worth; nothing where it is not one of its columns.
    calibration: str = ""
    # As reported.csv names it.
    reported: str = ""
    # Whether it was published after the paper: what was reported of it stands in a table of its own.
    later: bool = False
    # Whether runs without some of DFQ's steps go to the table of these steps.
    ablated: bool = False

    @property
    def needs_data(self) -> bool:
        """Whether it is calibrated on images of the data set."""
        return self.title.endswith("*")

    @property
    def distills(self) -> bool:
        """Whether its images are distilled, so that a figure draws their loss."""
        return DISTILLED in self.pictures


COLUMNS = (
    Column("Naive", "naive", color="#999999", calibration="Naive"),
    Column("DFQ", "dfq", color="#66a182", reported="dfq", ablated=True),
    Column("OMSE", "omse", color="#3d5a80"),
    Column("OCS", "ocs", color="#98c1d9"),
    Column("ACIQ", "aciq", color="#b07d4f"),
    Column("Gaussian", "gaussian", color="#edae49", images="Gaussian", pictures=(GIVEN,), calibration="Gaussian"),
    Column("Uniform noise", "uniform_noise", color="#b58900", images="uniform noise", pictures=(GIVEN,)),
    Column(
        "ZeroQ",
        "zeroq",
        color="#d1495b",
        images="distilled",
        pictures=(DISTILLED,),
        calibration="Distilled",
        reported="zeroq",
    ),
    Column(
        "ZeroQ, bounded",
        "zeroq",
        {"distill": "bounded"},
        color="#00798c",
        images="distilled, bounded",
        pictures=(DISTILLED,),
        calibration="Distilled, bounded",
    ),
    Column(
        "ZeroQ, fast", "zeroq", {"distill": "fast"}, color="#9bb46c", images="distilled, fast", pictures=(DISTILLED,)
    ),
    Column("ZeroQ, biases", "zeroq", {"method.bias_correction": "empirical"}, color="#e07a3f"),
    Column("ZeroQ+", "zeroq+", color="#8f2d56"),
    Column("ZeroQ+, Gaussian", "zeroq+", {"method.images": "gaussian"}, color="#c9a227"),
    Column("ZeroQ+, real data*", "zeroq+", {"method.images": "real"}, color="#5c5c5c"),
    Column("ZeroQ + DFQ", "zeroq+dfq", color="#7d5ba6", ablated=True),
    Column("Real data*", "real", color="#222222", images="real", pictures=(GIVEN,), calibration="Real data*"),
    Column("Random data (others')", reported="random-data"),
    Column("ZeroQ-MP (others')", reported="zeroq-mp reproduction"),
    Column("Real data (others')*", reported="real-data"),
    Column("DFQ folded alone", reported="dfq, BatchNorm folding alone"),
    Column("DFQ equalized", reported="dfq, + equalization"),
    Column("DFQ equalized and absorbed", reported="dfq, + equalization and absorption"),
    Column("DFQ (others')", reported="dfq reproduction"),
    Column("DFQ (others') equalized", reported="dfq reproduction, + equalization"),
    Column("DFQ (others') equalized and absorbed", reported="dfq reproduction, + equalization and absorption"),
    Column("DFQ (others') with distilled ranges", reported="dfq reproduction + distilled ranges"),
    Column("GDFQ", reported="gdfq", later=True),
    Column("DSG", reported="dsg", later=True),
    Column("Qimera", reported="qimera", later=True),
    Column("ZeroQ's images, fine-tuned", reported="zeroq's images, fine-tuned (IntraQ)", later=True),
    Column("IntraQ", reported="intraq", later=True),
    Column("SQuant", reported="squant", later=True),
    Column("GENIE", reported="genie", later=True),
    Column("SynQ", reported="synq", later=True),
    Column("SynQ on GENIE", reported="synq on genie", later=True),
)


def column_and_settings(record: dict) -> tuple[str, dict[str, str]]:
    """The title of the column that a record belongs into, and the settings that no column shows."""
    settings = extra_settings(record)
    fitting = [
        column
        for column in COLUMNS
        if column.method == record["method"] and column.settings.items() <= settings.items()
    ]
    column = max(fitting, key=lambda column: len(column.settings), default=column_of(record["method"]))
    return column.title, {key: value for key, value in settings.items() if key not in column.settings}


def column_of(title: str) -> Column:
    """The column of this title; for a method without a row, one with its name as title."""
    unlisted = Column(title, method=title, images=title, pictures=(DISTILLED, GIVEN))
    return next((column for column in COLUMNS if column.title == title), unlisted)


def column_order(title: str) -> tuple[int, str]:
    """As in ``COLUMNS``, and methods without a row behind."""
    titles = [column.title for column in COLUMNS]
    return (titles.index(title) if title in titles else len(titles)), title
