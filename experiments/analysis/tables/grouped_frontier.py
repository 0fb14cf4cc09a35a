"""The frontier that is searched group by group, as in the paper's appendix, beside the exact one."""

from experiments.analysis.cell import Cell, Table, frame_of, without_empty_settings
from experiments.analysis.columns import column_and_settings
from experiments.analysis.labels import bits_label, scores_label, settings_label
from experiments.core.record import PLACEMENT, formatted

ORDER = 65
SETTING = "frontier"
NOTES = (
    "Mean: bits of a weight. Ω: the sum of the layers' sensitivities. Joint: the divergence with all of the plan's "
    "weights quantized at once and float activations. Both in thousandths of a nat and, of both plans, on the images "
    "of the grouped search. Each score is of a run of its own, and where sums are rounded otherwise, so are distilled "
    "images others.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run with a grouped search has one with the exact frontier beside it."""
    exact = {tuple(words(record).values()): record for record in records if SETTING not in record["settings"]}
    grouped = {tuple(words(record).values()): record for record in records if "grouped" in record}
    if not (both := sorted(exact.keys() & grouped.keys())):
        return {}
    frame = without_empty_settings(frame_of([row(exact[key], grouped[key]) for key in both]))
    title = f"Exact frontier and grouped search. {scores_label(grouped[key]['metric'] for key in both)}"
    return {"grouped_frontier": Table(title, frame, NOTES)}


def words(record: dict) -> dict[str, str]:
    """What is said of a run but for its search."""
    title, settings = column_and_settings(record)
    if record["placement"] != PLACEMENT:
        settings = settings | {"placement": record["placement"]}
    others = settings_label({key: value for key, value in settings.items() if key != SETTING})
    return {
        "Network": record["model"],
        "Bits": bits_label(record),
        "Method": title,
        "Settings": others,
        "Seed": str(record["seed"]),
    }


def row(exact: dict, grouped: dict) -> dict[str, str]:
    """Two plans, what they should cost, what they cost together, and what they score."""
    found = grouped["grouped"]
    cells = words(grouped) | {"FP32": formatted(exact["fp32_value"], exact["metric"])}
    for title, record, prefix in (("Exact", exact, "exact_"), ("Grouped", grouped, "")):
        numbers = {
            "mean": f"{record['mean_weight_bits']:.3f}",
            "Ω": f"{1000 * found[f'{prefix}sensitivity']:.2f}",
            "joint": f"{1000 * found[f'{prefix}divergence']:.2f}",
            "score": formatted(record["value"], record["metric"]),
        }
        cells |= {f"{title}: {name}": Cell(text, [record["run"]]) for name, text in numbers.items()}
    return cells
