"""Tables from the records alone, as Markdown, LaTeX and CSV.

    python -m experiments.tables [results=FOLDER]

One row a network and bit setting, one column a method; MPw/Aa (mixed precision, w bits on average) and
uniform WwAa never share a row.
"""

import sys
from pathlib import Path

import pandas

from experiments.record import read_records
from experiments.results_argument import output_folder, results_argument

# Overrides that the table's columns tell already.
SHOWN = ("placement", "bits.weight", "bits.activation", "bits.mixed", "bits.size_mib")
METHODS = {"naive": "Naive", "gaussian": "Gaussian", "zeroq": "ZeroQ", "real": "Real data*"}


def accuracy_table(records: list[dict]) -> pandas.DataFrame:
    """Mean of the metric over seeds: formatted text, one row a network, placement, bit and other setting."""
    frame = pandas.DataFrame(records)
    frame["bits"] = [bits_label(row) for row in records]
    frame["others"] = [settings_label(row) for row in records]
    # Naive under a mixed-precision setting is the uniform run once more.
    frame = frame.drop_duplicates(["model", "placement", "bits", "others", "method", "seed"])
    groups = frame.groupby(["model", "placement", "others", "bits"])
    rows = [table_row(groups.get_group(key), *key) for key in sorted(groups.groups, key=row_order)]
    table = pandas.DataFrame(rows)
    return table if table["Settings"].any() else table.drop(columns="Settings")


def settings_label(record: dict) -> str:
    """What was set beyond the columns of the table, empty for the defaults."""
    return " ".join(f"{key}={value}" for key, value in record["settings"].items() if key not in SHOWN)


def row_order(key: tuple[str, str, str, str]) -> tuple:
    """By network, placement and settings as text, by bits as numbers."""
    return *key[:3], bits_order(key[3])


def bits_label(record: dict) -> str:
    """``W8/A8`` for uniform widths, ``MP4/A8`` for mixed precision."""
    width = str(record["w_bits"])
    return f"{width if width.startswith('MP') else 'W' + width}/A{record['a_bits']}"


def bits_order(label: str) -> tuple:
    """Uniform before mixed, wide before narrow."""
    weight, activation = label.split("/")
    mixed = weight.startswith("MP")
    return mixed, -float(weight.removeprefix("MP").removeprefix("W")), -float(activation[1:])


def table_row(group: pandas.DataFrame, model: str, placement: str, others: str, bits: str) -> dict[str, str]:
    """One row: FP32, then each method's mean, with ± standard deviation and count where there are several seeds."""
    row = {"Network": model, "Bits": bits, "Placement": placement, "Settings": others}
    # A plan's own size differs a little between methods and seeds; no plan exceeds its budget.
    row["MiB"] = f"{group.size_mib.max():.2f}"
    row["FP32 MiB"] = f"{group.fp32_size_mib.iloc[0]:.2f}"
    row["FP32"] = f"{group.fp32_value.iloc[0]:.2f}"
    for method, title in METHODS.items():
        values = group[group.method == method].value
        spread = f" ± {values.std():.2f} ({len(values)})" if len(values) > 1 else ""
        row[title] = f"{values.mean():.2f}{spread}" if len(values) else "–"
    return row


def loss_table(records: list[dict]) -> pandas.DataFrame:
    """BatchNorm loss of distilled and of Gaussian images, one row a network, recipe and seed."""
    rows = {}
    for record in records:
        if record["distill_loss"] is None:
            continue
        key = (record["model"], record["seed"], record["distill_loss"])  # shared by all bit settings
        rows[key] = {
            "Network": record["model"],
            "Seed": str(record["seed"]),
            "Gaussian": f"{record['gaussian_loss']:.2f}",
            "Distilled": f"{record['distill_loss']:.2f}",
            "Ratio": f"{record['gaussian_loss'] / record['distill_loss']:.1f}",
            "Distillation (s)": f"{record['seconds']['distill']:.1f}",
        }
    return pandas.DataFrame(list(rows.values()))


TITLES = {
    "accuracy": "Top-1 accuracy (%)",
    "batch_norm_loss": "BatchNorm loss of the calibration images",
}


def main() -> None:
    results = results_argument(sys.argv[1:], __doc__)
    records = read_records(results / "runs")
    if not records:
        sys.exit(f"error: there are no records in {results / 'runs'}; make some with `python -m experiments.run`")
    folder = output_folder(results / "tables")
    for name, table in {"accuracy": accuracy_table(records), "batch_norm_loss": loss_table(records)}.items():
        if table.empty:
            continue
        write(table, folder / name)
        print(f"\n{TITLES[name]}\n\n{table.to_markdown(index=False, disable_numparse=True)}")
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
