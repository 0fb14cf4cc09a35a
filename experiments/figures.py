"""Figures from the records alone.

    python -m experiments.figures [results=FOLDER] [outputs=FOLDER]

For each network and recipe of its images: the images beside each other, and their loss while they were distilled. For
each network, placement and setting: score against size, sensitivity by layer, the Pareto frontier with the chosen plan
over random ones, bits by layer. For each sweep over more than two values of a setting: the score at each.

Without words they are those of the committed results; with ``outputs``, of that folder's own runs, and with both words,
of both together. Pictures that an earlier call left there, and that no record stands behind any more, are removed. A
new kind of figure is a file in ``experiments/analysis/figures``.
"""

import re
import sys

import matplotlib.pyplot as plt

from experiments.analysis.figures import figures
from experiments.analysis.style import STYLE, save
from experiments.cli.words import output_folder, record_folders, remove_others, tell_omissions
from zeroq.errors import ZeroQError


def main() -> None:
    folders, _ = record_folders(sys.argv[1:], __doc__)
    try:
        collection = folders.collection()
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    folder = output_folder(folders.target / "figures")
    drawn = []
    with plt.rc_context(STYLE):
        for words, draw in figures(collection):
            name = re.sub("[/ ]", "-", "-".join(words))
            try:
                figure = draw()
            except (OSError, ValueError, LookupError, SyntaxError) as error:  # the last is of a picture that is none
                print(f"Left out: figure {name} ({error})", file=sys.stderr)
                continue
            try:
                save(figure, folder / f"{name}.png")
            except OSError as error:
                sys.exit(f"error: cannot write {folder / name}.png ({error.strerror}); figures before it are new")
            drawn.append(name)
    print(f"{len(drawn)} figures written to {folder}")
    remove_others(folder, drawn, [".png"])
    tell_omissions(collection)


if __name__ == "__main__":
    main()
