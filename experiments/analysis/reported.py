"""What was reported elsewhere: figures of the paper and of others, each with the place where it was seen."""

from pathlib import Path

import pandas

from experiments.analysis.columns import COLUMNS
from experiments.analysis.labels import bits_label
from zeroq.errors import ZeroQError

REPORTED = Path(__file__).with_name("reported.csv")
BASELINE, FLOAT = "Baseline", "fp32"


def read_reported() -> pandas.DataFrame:
    """The reported figures, with the model, column and bits that a measured one would have, in the same units.

    A reported method's column is one of those that are measured where it is the same method. Raises ZeroQError for a
    method without a column.
    """
    reported = pandas.read_csv(REPORTED, dtype={"w_bits": str, "a_bits": str})
    reported["model"] = reported.dataset + "/" + reported.model
    titles = {column.reported: column.title for column in COLUMNS if column.reported}
    reported["column"] = reported.method.map({**titles, FLOAT: BASELINE})
    if reported.column.isna().any():
        raise ZeroQError(f"{REPORTED} has methods without a column: {set(reported[reported.column.isna()].method)}")
    reported["bits"] = [bits_label(row) for row in reported.to_dict("records")]
    is_share = reported.metric == "map"  # reported in percent
    reported.loc[is_share, ["value", "fp32"]] /= 100
    return reported
