"""Tables from the records alone, as Markdown, LaTeX and CSV.

    python -m experiments.tables [results=FOLDER]
    python -m experiments.tables source=wandb entity=NAME project=NAME [results=FOLDER]

The paper's tables, one for each network and some over all of them; every method beside the others; DFQ step by step.
MPw/Aa (mixed precision, w bits on average) and uniform WwAa never share a row, nor, among the methods, do runs that
differ in anything else but the seed; the paper's tables give each method its own granularity, and say so. Records that
are damaged or do not fit the others are left out, and the tables say so.

The folder ``tables`` holds nothing else: tables in it that no record stands behind are removed.
"""

import sys
from dataclasses import replace
from pathlib import Path

from experiments.analysis.cell import SUFFIXES, Table, data_foot, without_empty_settings
from experiments.analysis.collection import Collection, from_folder
from experiments.analysis.columns import METRICS, scores_label
from experiments.analysis.tables.deployment import DEPLOYMENT_FEET, PLACEMENT_FEET, deployment_table, placement_table
from experiments.analysis.tables.dfq_ablation import ablation_table, is_ablation
from experiments.analysis.tables.methods import loss_table, method_table
from experiments.analysis.tables.paper import paper_tables
from experiments.analysis.tables.sweeps import compared, sweep_table
from experiments.analysis.wandb_records import from_wandb
from experiments.cli.words import output_folder, remove_others, results_arguments, tell_omissions
from zeroq.errors import ZeroQError

SWEEP_FEET = (
    "null stands for the whole range as percentile, and for the network's own size as distill.size.",
    "A default is the mean over the seeds that its sweep was run with, so it may differ between sweeps.",
)
STEPS_FEET = (
    "FP32 after the steps: the float network once the steps changed its weights. – stands where nothing was measured.",
)
LOSS_FEET = (
    "Ratio: how many times the noise's loss is the distilled images'.",
    "Seconds are of the machine that made the images, at whatever load it had; they compare nothing.",
)
NAIVE_FOOT = "Naive and DFQ measure no sensitivities, so they have no MP rows."


def tables(collection: Collection) -> dict[str, Table]:
    """Name → table, for all that the records allow."""
    records = collection.records
    found, scores = {}, scores_label(record["metric"] for record in records)
    whole = [record for record in compared(records) if not is_ablation(record)]
    kinds = {(record["metric"], record["dataset"]) for record in whole}
    for metric, dataset in sorted(kinds, key=lambda kind: (list(METRICS).index(kind[0]), kind[1])):
        same = [record for record in whole if (record["metric"], record["dataset"]) == (metric, dataset)]
        frame = method_table(same)
        feet = (*data_foot(frame), *((NAIVE_FOOT,) if frame.Bits.str.startswith("MP").any() else ()))
        found[f"{metric}-{dataset}"] = Table(f"{METRICS[metric]}, {dataset}", frame, feet, dataset)
    swept = sweep_table(records)
    sweep_feet = (*SWEEP_FEET, *data_foot(swept))
    for name, table in (
        ("dfq_ablation", Table(f"DFQ step by step. {scores}", ablation_table(records), STEPS_FEET)),
        ("sweeps", Table(f"One setting changed, all others the same. {scores}", swept, sweep_feet)),
        ("deployment", Table("Exported files", without_empty_settings(deployment_table(records)), DEPLOYMENT_FEET)),
        (
            "placements",
            Table(f"Placements of activation quantizers. {scores}", placement_table(records), PLACEMENT_FEET),
        ),
        ("batch_norm_loss", Table("BatchNorm loss (Eq. 3) of calibration images", loss_table(records), LOSS_FEET)),
    ):
        if not table.frame.empty:
            found[name] = table
    found |= paper_tables(records)
    return {name: with_omissions(table, collection) for name, table in found.items()}


def with_omissions(table: Table, collection: Collection) -> Table:
    """The table, with what was left out at its foot: records that belong there, and those that could not be read."""
    notes = [
        f"{str(omission)[0].upper()}{str(omission)[1:]}."
        for omission in collection.omissions
        if omission.dataset in (None, table.dataset or omission.dataset)
        and omission.model in (None, table.model or omission.model)
    ]
    return replace(table, notes=(*table.notes, *notes))


def collected(results: Path, source: str = "local", entity: str = "", project: str = "") -> Collection:
    """The records of a folder, or of a W&B project; raises ZeroQError for words that do not go together."""
    if source == "local" and not (entity or project):
        return from_folder(results / "runs")
    if source == "wandb" and entity and project:
        return from_wandb(entity, project)
    raise ZeroQError("source is local, or wandb together with entity=… and project=…")


def main() -> None:
    results, named = results_arguments(sys.argv[1:], __doc__, ("source", "entity", "project"))
    try:
        used = collected(results, **named)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    found = tables(used)
    # Another source's tables are not those of the records beside them.
    words = ["tables", *(named[key] for key in ("entity", "project") if key in named)]
    folder = output_folder(results / "-".join(words))
    for name, table in found.items():
        table.write(folder / name)
        if name.startswith((*METRICS, "dfq", "sweeps")):
            print(f"\n{table.markdown()}")
    print(f"Written to {folder} as Markdown, LaTeX and CSV, with {len(found)} tables in all:\n  {'  '.join(found)}")
    remove_others(folder, found, SUFFIXES)
    tell_omissions(used)


if __name__ == "__main__":
    main()
