"""How offline W&B runs are uploaded: one command for each that lies below a folder of results.

    python -m experiments.sync [results=FOLDER] [project=…] [entity=…]

It prints the commands and runs none: an upload wants an account (`wandb login`). A run that was uploaded has a file
``*.synced`` beside its data, and is left out.
"""

import shlex
import sys

from experiments.cli.words import results_arguments


def main() -> None:
    results, named = results_arguments(sys.argv[1:], __doc__, ("project", "entity"))
    offline = sorted((results / "runs").glob("*/wandb/offline-run-*"))
    waiting = [folder for folder in offline if not list(folder.glob("*.synced"))]
    if not waiting:
        print(f"no offline run of W&B waits below {results / 'runs'}; runs with tracker=offline leave one each")
        return
    options = "".join(f" --{key} {shlex.quote(value)}" for key, value in sorted(named.items()))
    print("# wandb login, once; then:")
    for folder in waiting:
        print(f"wandb sync{options} {shlex.quote(str(folder))}")


if __name__ == "__main__":
    main()
