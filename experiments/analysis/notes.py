"""Notes that stand at the foot of several tables."""

from collections.abc import Iterable, Mapping

import pandas

from experiments.analysis.columns import column_order

DATA_NOTE = "* needs data: calibrated on images of the data set, of its training images where there are any."
MEASURED_NOTE = "Measured with each layer's input quantized (placement layer_inputs) and each method's own settings."


def data_notes(frame: pandas.DataFrame) -> tuple[str, ...]:
    """The note on methods that need data, where a table names one: its title has a star."""
    titles = {*frame, *frame.get("Method", ())}
    return (DATA_NOTE,) if any(title.endswith("*") for title in titles) else ()


def measured_notes(runs: pandas.DataFrame) -> tuple[str, str]:
    """How runs were measured, and which methods have which granularity: each has its own default."""
    return MEASURED_NOTE, granularity_note(runs.groupby("column").granularity.agg(set))


def granularity_note(granularities: Mapping[str, Iterable[str]]) -> str:
    """Which methods (column → granularities of its records) have one weight range a channel, and which one a tensor."""
    parts = []
    for kind, words in (("per_channel", "One weight range a channel"), ("per_tensor", "One weight range a tensor")):
        columns = sorted((column for column, kinds in granularities.items() if kind in kinds), key=column_order)
        if columns:
            parts.append(f"{words}: {'; '.join(columns).replace('*', '')}.")
    return " ".join(parts)
