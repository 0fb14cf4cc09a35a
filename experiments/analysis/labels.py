"""How a record's bits, settings and scores read in tables and figures."""

from collections.abc import Iterable

# Settings that other columns of a table show already.
SHOWN = ("model.name", "placement", "method.per_channel", "bits.weight", "bits.activation", "bits.mixed")
SHOWN += ("bits.mixed_activations",)
GRANULARITIES = {"per_channel": "per channel", "per_tensor": "per tensor"}
METRICS = {"top1": "Top-1 accuracy (%)", "map": "Mean average precision (IoU 0.50:0.95)"}
SHORT_METRICS = {"top1": "Top-1 (%)", "map": "mAP"}


def scores_label(metrics: Iterable[str]) -> str:
    """What the scores of a table are."""
    present = set(metrics)
    return " or ".join(label for metric, label in METRICS.items() if metric in present)


def bits_label(record: dict) -> str:
    """``W8/A8`` for uniform widths, ``MP4/A8`` for mixed precision, ``MP4/AMP6`` where activations are mixed too."""
    width = str(record["w_bits"])
    return f"{width if width.startswith('MP') else 'W' + width}/A{record['a_bits']}"


def bits_order(label: str) -> tuple:
    """Uniform before mixed, wide before narrow."""
    weight, activation = label.split("/")
    mixed = weight.startswith("MP")
    return mixed, -float(weight.removeprefix("MP").removeprefix("W")), -activation_width(activation[1:])


def activation_width(a_bits: int | str) -> float:
    """The bits of activations that a record names, or their mean."""
    return float(str(a_bits).removeprefix("MP"))


def extra_settings(record: dict) -> dict[str, str]:
    """The settings that the columns for network, placement, weights and bits do not show.

    The label of a mixed plan is rounded, so that another budget may have the same: then the budget is a setting.
    """
    width, budget = str(record["w_bits"]), record["settings"].get("bits.weight")
    rounded = width.startswith("MP") and budget is not None and float(budget) != float(width.removeprefix("MP"))
    shown = set(SHOWN) - ({"bits.weight"} if rounded else set())
    return {key: value for key, value in record["settings"].items() if key not in shown}


def settings_label(settings: dict[str, str]) -> str:
    """Settings as words, empty for the defaults."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def recipe_label(settings: dict[str, str]) -> str:
    """What was set that changes distilled images: the recipe, and the checkpoint that they were distilled from."""
    return settings_label({k: v for k, v in settings.items() if k.startswith("distill") or k == "model.checkpoint"})
