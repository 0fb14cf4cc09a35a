"""What was reported elsewhere: figures of the paper and of others, each with the place where it was seen.

Sources differ. What each of them says is a row of its own, and tables show the lowest and the highest.
"""

from pathlib import Path

import pandas

from experiments.analysis.cell import NONE
from experiments.analysis.columns import COLUMNS
from experiments.analysis.labels import METRICS, bits_label
from experiments.core.record import formatted
from zeroq.errors import ZeroQError

REPORTED = Path(__file__).with_name("reported.csv")
BASELINE, FLOAT = "Baseline", "fp32"
LATER = tuple(column.title for column in COLUMNS if column.later)
# What stands behind a method's name where it is the same method: who says so, or how the ranges were set.
SEEN_AGAIN = r", (?:quoted|rerun|official code rerun|timed) by .+$|, min-max$"
# Reported networks whose weights are not those of the paper's networks → what measured ones are called.
OTHER_NETWORKS = {r"^\w+/(\w+) \((\w+)\)$": r"\2/\1", r"^(cifar\d+)/(\w+)$": r"pytorchcv/\2_\1"}


def read_reported() -> pandas.DataFrame:
    """The reported scores, with the model, column and bits that a measured one would have, in the same units.

    A reported method's column is one of those that are measured where it is the same method. Where a source does not
    say how many bits activations have, they count as many as the weights'. Raises ZeroQError for a method without a
    column.
    """
    reported = all_reported()
    scores = reported[reported.metric.isin(METRICS)].copy()
    is_share = scores.metric == "map"  # reported in percent
    scores.loc[is_share, ["value", "fp32"]] /= 100
    return scores


def read_seconds() -> pandas.DataFrame:
    """How long quantization was reported to take, with model, column and bits (empty where no source says)."""
    reported = all_reported()
    return reported[reported.metric == "seconds"]


def all_reported() -> pandas.DataFrame:
    """Every row of the file, with model, column and bits."""
    reported = pandas.read_csv(REPORTED, dtype={"w_bits": str, "a_bits": str})
    reported["model"] = (reported.dataset + "/" + reported.model).replace(OTHER_NETWORKS, regex=True)
    titles = {column.reported: column.title for column in COLUMNS if column.reported}
    reported["method"] = reported.method.str.replace(SEEN_AGAIN, "", regex=True)
    reported["column"] = reported.method.map({**titles, FLOAT: BASELINE})
    if reported.column.isna().any():
        raise ZeroQError(f"{REPORTED} has methods without a column: {set(reported[reported.column.isna()].method)}")
    reported["a_bits"] = reported.a_bits.fillna(reported.w_bits)
    known = reported.w_bits.notna()
    reported["bits"] = ""
    reported.loc[known, "bits"] = [bits_label(row) for row in reported[known].to_dict("records")]
    return reported


def reported_range(values: pandas.Series, metric: str) -> str:
    """A score as tables show it, the lowest and the highest where sources differ, – where no source has one."""
    return " to ".join(dict.fromkeys(score_text(end, metric) for end in (values.min(), values.max())))


def score_text(value: float, metric: str) -> str:
    """A score as tables show it, – where there is none."""
    return NONE if pandas.isna(value) else formatted(value, metric)


def costs(own: pandas.DataFrame, reported: pandas.DataFrame) -> tuple[str, str]:
    """Whether a method needs no data, and no fine-tuning: as it was measured, else as it was reported."""
    if len(own):
        # No method here trains the network further.
        return "no" if own.needs_data.any() else "yes", "yes"
    first = reported.iloc[0].fillna(NONE)
    return first.data_free, {"yes": "no", "no": "yes"}.get(first.finetuned, NONE)
