"""How records' settings and scores read in tables and figures."""

import pandas

from experiments.record import formatted

# Overrides that the table's columns tell already.
SHOWN = ("model.name", "placement", "method.per_channel", "bits.weight", "bits.activation", "bits.mixed")
GRANULARITIES = {"per_channel": "per channel", "per_tensor": "per tensor"}


def bits_label(record: dict) -> str:
    """``W8/A8`` for uniform widths, ``MP4/A8`` for mixed precision."""
    width = str(record["w_bits"])
    return f"{width if width.startswith('MP') else 'W' + width}/A{record['a_bits']}"


def settings_label(settings: dict[str, str]) -> str:
    """What was set beyond the columns of the table, empty for the defaults."""
    return " ".join(f"{key}={value}" for key, value in settings.items() if key not in SHOWN)


def averaged(values: pandas.Series, metric: str) -> str:
    """The mean over seeds, with ± standard deviation and count where there are several, – where there is none."""
    if values.empty:
        return "–"
    spread = f" ± {formatted(values.std(), metric)} ({len(values)})" if len(values) > 1 else ""
    return formatted(values.mean(), metric) + spread
