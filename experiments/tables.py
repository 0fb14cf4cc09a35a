"""Tables from the records alone, as Markdown, LaTeX and CSV.

    python -m experiments.tables [results=FOLDER]

One row a network and bit setting, one column a method; MPw/Aa (mixed precision, w bits on average) and
uniform WwAa never share a row.
"""

import sys
from pathlib import Path

import pandas

from experiments.record import read_records
from experiments.results_argument import results_argument

METHODS = {"naive": "Naive", "gaussian": "Gaussian", "zeroq": "ZeroQ", "real": "Real data*"}


def accuracy_table(records: list[dict]) -> pandas.DataFrame:
    """Mean of the metric over seeds: formatted text, one row a network, bit setting and placement."""
    frame = pandas.DataFrame(records)
    frame["bits"] = [bits_label(row) for row in records]
    rows = []
    keys = ["model", "placement", "bits"]
    order = {key: list(dict.fromkeys(frame[key])) for key in ("model", "placement")}
    for model in order["model"]:
        for placement in order["placement"]:
            part = frame[(frame.model == model) & (frame.placement == placement)]
            for bits in sorted(part.bits.unique(), key=bits_order):
                rows.append(table_row(part[part.bits == bits], dict(zip(keys, (model, placement, bits), strict=True))))
    return pandas.DataFrame(rows)


def bits_label(record: dict) -> str:
    """``W8/A8`` for uniform widths, ``MP4/A8`` for mixed precision."""
    width = str(record["w_bits"])
    return f"{width if width.startswith('MP') else 'W' + width}/A{record['a_bits']}"


def bits_order(label: str) -> tuple:
    """Uniform before mixed, wide before narrow."""
    weight, activation = label.split("/")
    mixed = weight.startswith("MP")
    return mixed, -float(weight.removeprefix("MP").removeprefix("W")), -float(activation[1:])


def table_row(group: pandas.DataFrame, keys: dict[str, str]) -> dict[str, str]:
    """One row: FP32, then each method's mean, with ± standard deviation and count where there are several seeds."""
    row = {"Network": keys["model"], "Bits": keys["bits"], "Placement": keys["placement"]}
    # The largest plan's size; the naive baseline's uniform one may differ from a mixed plan's.
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
        key = (record["model"], record["seed"], record["distill_loss"])
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
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"accuracy": accuracy_table(records), "batch_norm_loss": loss_table(records)}.items():
        if table.empty:
            continue
        write(table, folder / name)
        print(f"\n{TITLES[name]}\n\n{table.to_markdown(index=False, disable_numparse=True)}")
    print(
        "\n* needs data: calibrated on training images. Naive has no sensitivities: its MP rows are uniform.\n"
        f"Written to {folder} as Markdown, LaTeX and CSV."
    )


def write(table: pandas.DataFrame, path: Path) -> None:
    """The same frame as .md, .tex (booktabs) and .csv."""
    path.with_suffix(".md").write_text(table.to_markdown(index=False, disable_numparse=True) + "\n")
    path.with_suffix(".tex").write_text(table.to_latex(index=False, escape=True))
    table.to_csv(path.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
