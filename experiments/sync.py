"""How offline W&B runs are uploaded: one command for each that lies below a folder of outputs.

    python -m experiments.sync [outputs=FOLDER] [project=…] [entity=…]

It prints the commands and runs none: an upload wants an account (`wandb login`). A run that was uploaded has a file
``*.synced`` beside its data, and is left out.
"""

import shlex
import sys
from pathlib import Path

from experiments.cli.words import named_words


def main() -> None:
    given = named_words(sys.argv[1:], __doc__, ("outputs", "project", "entity"))
    runs = Path(given.pop("outputs", "outputs")) / "runs"
    offline = sorted(runs.glob("*/wandb/offline-run-*"))
    waiting = [folder for folder in offline if not list(folder.glob("*.synced"))]
    if not waiting:
        print(f"no offline run of W&B waits below {runs}; runs with tracker=offline leave one each")
        return
    options = "".join(f" --{key} {shlex.quote(value)}" for key, value in sorted(given.items()))
    print("# wandb login, once; then:")
    for folder in waiting:
        print(f"wandb sync{options} {shlex.quote(str(folder))}")


if __name__ == "__main__":
    main()
