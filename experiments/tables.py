"""Tables from the records alone, as Markdown, LaTeX and CSV.

    python -m experiments.tables [results=FOLDER] [outputs=FOLDER]
    python -m experiments.tables source=wandb entity=NAME project=NAME [outputs=FOLDER]

The paper's tables, one for each network and some over all of them; every method beside the others; DFQ step by step.
MPw/Aa (mixed precision, w bits on average) and uniform WwAa never share a row, nor, among the methods, do runs that
differ in anything else but the seed; the paper's tables give each method its own granularity, and say so. Records that
are damaged or do not fit the others are left out, and the tables say so.

Without words they are those of the committed results; with ``outputs``, of that folder's own runs, and with both words,
of both together. Tables that an earlier call left there, and that no record stands behind any more, are removed. A new
table is a file in ``experiments/analysis/tables``.
"""

import sys

from experiments.analysis.cell import SUFFIXES
from experiments.analysis.collection import Collection
from experiments.analysis.tables import tables
from experiments.analysis.wandb_records import from_wandb
from experiments.cli.words import Folders, output_folder, record_folders, remove_others, tell_omissions
from zeroq.errors import ZeroQError


def collected(folders: Folders, source: str = "local", entity: str = "", project: str = "") -> Collection:
    """The records of folders, or of a W&B project; raises ZeroQError for words that do not go together."""
    if source == "local" and not (entity or project):
        return folders.collection()
    if source == "wandb" and entity and project:
        return from_wandb(entity, project)
    raise ZeroQError("source is local, or wandb together with entity=… and project=…")


def main() -> None:
    folders, given = record_folders(sys.argv[1:], __doc__, ("source", "entity", "project"))
    try:
        collection = collected(folders, **given)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    written = tables(collection)
    # Another source's tables are not those of the records beside them.
    words = ["tables", *(given[key] for key in ("entity", "project") if key in given)]
    folder = output_folder(folders.target / "-".join(words))
    for name, table in written.items():
        try:
            table.write(folder / name)
        except OSError as error:
            sys.exit(f"error: cannot write {folder / name} ({error.strerror}); tables before it are new")
        if table.printed:
            print(f"\n{table.markdown()}")
    print(f"Written to {folder} as Markdown, LaTeX and CSV, with {len(written)} tables in all:\n  {'  '.join(written)}")
    remove_others(folder, written, SUFFIXES)
    tell_omissions(collection)


if __name__ == "__main__":
    main()
