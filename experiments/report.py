"""One page with an interactive chart, every table and every figure: for people.

    python -m experiments.report [results=FOLDER] [outputs=FOLDER]

It reads the records and the figures that ``experiments.figures`` has drawn, and writes ``outputs/report.html``: a
single file that needs no network. With ``outputs`` it is of that folder's own runs, and stands in that folder; with
both words, of both together.
"""

import sys
from pathlib import Path

from experiments.analysis.report.page import page
from experiments.analysis.tables import tables
from experiments.cli.words import output_folder, record_folders, tell_omissions
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole

OUTPUTS = Path("outputs")


def main() -> None:
    folders, _ = record_folders(sys.argv[1:], __doc__)
    try:
        collection = folders.collection()
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    target = output_folder(folders.outputs or OUTPUTS) / "report.html"
    figures = folders.target / "figures"
    text = page(collection, tables(collection), figures, committed=folders.results is not None, own=folders.outputs)
    try:
        write_whole(target, text)
    except OSError as error:
        sys.exit(f"error: cannot write {target} ({error.strerror})")
    print(f"Written to {target}")
    tell_omissions(collection)


if __name__ == "__main__":
    main()
