"""How records' settings read in tables and figures."""

from collections.abc import Iterable, Mapping

# Settings that the columns of a table tell already.
SHOWN = ("model.name", "placement", "method.per_channel", "bits.weight", "bits.activation", "bits.mixed")
GRANULARITIES = {"per_channel": "per channel", "per_tensor": "per tensor"}
METRICS = {"top1": "Top-1 accuracy (%)", "map": "Mean average precision (IoU 0.50:0.95)"}
SHORT_METRICS = {"top1": "Top-1 (%)", "map": "mAP"}
# Column → method, and the settings that belong to it.
COLUMNS = {
    "Naive": ("naive", {}),
    "DFQ": ("dfq", {}),
    "Gaussian": ("gaussian", {}),
    "ZeroQ": ("zeroq", {}),
    "ZeroQ, bounded": ("zeroq", {"distill": "bounded"}),
    "ZeroQ, fast": ("zeroq", {"distill": "fast"}),
    "ZeroQ, biases": ("zeroq", {"method.bias_correction": "empirical"}),
    "ZeroQ + DFQ": ("zeroq+dfq", {}),
    "Real data*": ("real", {}),
}


def scores_label(metrics: Iterable[str]) -> str:
    """What the scores of a table are."""
    present = set(metrics)
    return " or ".join(label for metric, label in METRICS.items() if metric in present)


def granularity_note(granularities: Mapping[str, Iterable[str]]) -> str:
    """Which methods (column → granularities of its records) have one weight range a channel, and which one a tensor."""
    parts = []
    for kind, words in (("per_channel", "One weight range a channel"), ("per_tensor", "One weight range a tensor")):
        columns = sorted((column for column, kinds in granularities.items() if kind in kinds), key=column_order)
        if columns:
            parts.append(f"{words}: {'; '.join(columns).replace('*', '')}.")
    return " ".join(parts)


def bits_label(record: dict) -> str:
    """``W8/A8`` for uniform widths, ``MP4/A8`` for mixed precision."""
    width = str(record["w_bits"])
    return f"{width if width.startswith('MP') else 'W' + width}/A{record['a_bits']}"


def bits_order(label: str) -> tuple:
    """Uniform before mixed, wide before narrow."""
    weight, activation = label.split("/")
    mixed = weight.startswith("MP")
    return mixed, -float(weight.removeprefix("MP").removeprefix("W")), -float(activation[1:])


def untold(record: dict) -> dict[str, str]:
    """The settings that the columns for network, placement, weights and bits do not tell.

    The label of a mixed plan is rounded, so that another budget may have the same: then the budget is a setting.
    """
    width, budget = str(record["w_bits"]), record["settings"].get("bits.weight")
    rounded = width.startswith("MP") and budget is not None and float(budget) != float(width.removeprefix("MP"))
    told = set(SHOWN) - ({"bits.weight"} if rounded else set())
    return {key: value for key, value in record["settings"].items() if key not in told}


def column_and_settings(record: dict) -> tuple[str, dict[str, str]]:
    """The column that a record belongs into, and the settings that no column tells."""
    settings = untold(record)
    fitting = [
        (title, own)
        for title, (method, own) in COLUMNS.items()
        if method == record["method"] and own.items() <= settings.items()
    ]
    title, own = max(fitting, key=lambda column: len(column[1]), default=(record["method"], {}))
    return title, {key: value for key, value in settings.items() if key not in own}


def column_order(title: str) -> tuple[int, str]:
    """As in ``COLUMNS``, and methods of one's own behind."""
    return (list(COLUMNS).index(title) if title in COLUMNS else len(COLUMNS)), title


def settings_label(settings: dict[str, str]) -> str:
    """Settings as words, empty for the defaults."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def recipe_label(settings: dict[str, str]) -> str:
    """What was set that changes distilled images: the recipe, and the checkpoint that they were distilled from."""
    return settings_label({k: v for k, v in settings.items() if k.startswith("distill") or k == "model.checkpoint"})
