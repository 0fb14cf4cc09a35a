"""Tables from the records alone, as Markdown, LaTeX and CSV.

    python -m experiments.tables [results=FOLDER]

One row a network and bit setting, one column a method; MPw/Aa (mixed precision, w bits on average) and
uniform WwAa never share a row, nor do runs that differ in anything else but the seed.
"""

import sys
from pathlib import Path

import pandas

from experiments.ablation import ablation_table, is_ablation
from experiments.comparable import check_each_run_once, check_same_origin
from experiments.labels import GRANULARITIES, averaged, bits_label, settings_label
from experiments.record import formatted, read_records
from experiments.results_argument import output_folder, results_argument
from zeroq.errors import ZeroQError

# Column → method, and the settings that belong to it.
COLUMNS = {
    "Naive": ("naive", {}),
    "DFQ": ("dfq", {}),
    "Gaussian": ("gaussian", {}),
    "ZeroQ": ("zeroq", {}),
    "ZeroQ, bounded": ("zeroq", {"distill": "bounded"}),
    "ZeroQ, biases": ("zeroq", {"method.bias_correction": "empirical"}),
    "ZeroQ + DFQ": ("zeroq+dfq", {}),
    "Real data*": ("real", {}),
}
METRICS = {"top1": "Top-1 accuracy (%)", "map": "Mean average precision (IoU 0.50:0.95)"}


def tables(records: list[dict]) -> dict[str, tuple[str, pandas.DataFrame]]:
    """Name → (title, table): one of the methods for each dataset, DFQ's steps, and the BatchNorm loss."""
    found = {}
    whole = [record for record in records if not is_ablation(record)]
    kinds = {(record["metric"], record["dataset"]) for record in whole}
    for metric, dataset in sorted(kinds, key=lambda kind: (list(METRICS).index(kind[0]), kind[1])):
        same = [record for record in whole if (record["metric"], record["dataset"]) == (metric, dataset)]
        found[f"{metric}-{dataset}"] = (f"{METRICS[metric]}, {dataset}", method_table(same))
    steps = ablation_table(records)
    losses = loss_table(records)
    for name, title, table in (
        ("dfq_ablation", "DFQ step by step", steps),
        ("batch_norm_loss", "BatchNorm loss of the calibration images", losses),
    ):
        if not table.empty:
            found[name] = (title, table)
    return found


def method_table(records: list[dict]) -> pandas.DataFrame:
    """Mean of the metric over seeds: formatted text, one row a network, placement, granularity, bit and other setting.

    ``records`` are those of one dataset. Raises ZeroQError where the records of one network stem from different
    weights or test sets, and for two records of the same run.
    """
    frame = pandas.DataFrame(records)
    check_same_origin(frame)
    frame["bits"] = [bits_label(row) for row in records]
    columns = [column_and_settings(row) for row in records]
    frame["column"] = [column for column, _ in columns]
    frame["others"] = [settings_label(settings) for _, settings in columns]
    frame["weights"] = [GRANULARITIES[row["granularity"]] for row in records]
    keys = ["model", "placement", "weights", "others", "bits"]
    # Naive under a mixed-precision setting is the uniform run once more.
    frame = frame[(frame.method != "naive") | ~frame.duplicated([*keys, "method", "seed"])]
    # The label of a mixed plan is rounded; its budget is a setting.
    frame["budget"] = [
        str([settings.get(key) for key in ("bits.weight", "bits.size_mib")]) for settings in frame.settings
    ]
    uniform = ~frame.w_bits.str.startswith("MP")
    frame.loc[uniform, "budget"] = ""
    check_each_run_once(frame, [*keys, "budget", "column"])
    groups = frame.groupby(keys)
    own = sorted(set(frame.column) - COLUMNS.keys())
    titles = [*(title for title in COLUMNS if title in set(frame.column)), *own]
    rows = [table_row(groups.get_group(key), titles, *key) for key in sorted(groups.groups, key=row_order)]
    return without_empty_settings(pandas.DataFrame(rows))


def column_and_settings(record: dict) -> tuple[str, dict[str, str]]:
    """The column that a record belongs into, and the settings that the column does not tell."""
    settings = record["settings"]
    fitting = [
        (title, own)
        for title, (method, own) in COLUMNS.items()
        if method == record["method"] and own.items() <= settings.items()
    ]
    title, own = max(fitting, key=lambda column: len(column[1]), default=(record["method"], {}))
    return title, {key: value for key, value in settings.items() if key not in own}


def recipe_label(settings: dict[str, str]) -> str:
    """What was set that changes distilled images: the recipe, and the checkpoint that they were distilled from."""
    return settings_label({k: v for k, v in settings.items() if k.startswith("distill") or k == "model.checkpoint"})


def without_empty_settings(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table, without its column Settings where every row has the defaults."""
    return table if table.empty or table["Settings"].any() else table.drop(columns="Settings")


def row_order(key: tuple[str, str, str, str, str]) -> tuple:
    """By network, placement, granularity and settings as text, by bits as numbers."""
    return *key[:4], bits_order(key[4])


def bits_order(label: str) -> tuple:
    """Uniform before mixed, wide before narrow."""
    weight, activation = label.split("/")
    mixed = weight.startswith("MP")
    return mixed, -float(weight.removeprefix("MP").removeprefix("W")), -float(activation[1:])


def table_row(
    group: pandas.DataFrame, titles: list[str], model: str, placement: str, granularity: str, others: str, bits: str
) -> dict[str, str]:
    """One row: FP32, then each method's mean, with ± standard deviation and count where there are several seeds."""
    row = {"Network": model, "Bits": bits, "Placement": placement, "Weights": granularity, "Settings": others}
    # A plan's own size differs a little between methods and seeds; no plan exceeds its budget.
    row["MiB"] = f"{group.size_mib.max():.2f}"
    row["FP32 MiB"] = f"{group.fp32_size_mib.iloc[0]:.2f}"
    metric = group.metric.iloc[0]
    row["FP32"] = formatted(group.fp32_value.iloc[0], metric)
    for title in titles:
        row[title] = averaged(group[group.column == title].value, metric)
    return row


def loss_table(records: list[dict]) -> pandas.DataFrame:
    """BatchNorm loss of distilled and of Gaussian images: one row a network, recipe and seed, for all bit settings."""
    rows = {}
    for record in records:
        if record["distill_loss"] is None:
            continue
        recipe = recipe_label(record["settings"])
        rows[record["model"], recipe, record["seed"]] = {
            "Network": record["model"],
            "Settings": recipe,
            "Seed": str(record["seed"]),
            "Gaussian": f"{record['gaussian_loss']:.2f}",
            "Distilled": f"{record['distill_loss']:.2f}",
            "Ratio": f"{record['gaussian_loss'] / record['distill_loss']:.1f}",
            "Distillation (s)": f"{record['seconds']['distill']:.1f}",
        }
    return without_empty_settings(pandas.DataFrame(list(rows.values())))


def main() -> None:
    results = results_argument(sys.argv[1:], __doc__)
    try:
        found = tables(read_records(results / "runs"))
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    folder = output_folder(results / "tables")
    for name, (title, table) in found.items():
        write(table, folder / name)
        print(f"\n{title}\n\n{table.to_markdown(index=False, disable_numparse=True)}")
    print(
        "\n* needs data: calibrated on training images. Naive measures no sensitivities, so it has no MP rows.\n"
        f"Written to {folder} as Markdown, LaTeX and CSV."
    )


def write(table: pandas.DataFrame, path: Path) -> None:
    """The same frame as .md, .tex (booktabs) and .csv."""
    path.with_suffix(".md").write_text(table.to_markdown(index=False, disable_numparse=True) + "\n")
    path.with_suffix(".tex").write_text(table.to_latex(index=False, escape=True))
    table.to_csv(path.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
