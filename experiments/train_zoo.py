"""Train the bundled zoo on Fashion-MNIST's training images, or on scenes of them.

    python -m experiments.train_zoo resnet18 retinanet

Every epoch ends in a checkpoint; a run that was stopped goes on from it. The finished network is scored
on the test images by this run, and its weights, their sha256, the score, the time and the
command are written side by side into zeroq/networks/weights.
"""

import argparse
import sys
from pathlib import Path

from experiments.training.bundled import train
from zeroq.errors import ZeroQError
from zeroq.networks import zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(zoo.ARCHITECTURES)
    parser.add_argument("architectures", nargs="*", default=known, metavar="architecture", help=", ".join(known))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    arguments = parser.parse_args()
    if unknown := set(arguments.architectures) - set(known):
        parser.error(f"the bundled zoo has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    folders = {"data": arguments.data, "checkpoints": arguments.checkpoints, "weights": zoo.WEIGHTS}
    try:
        for architecture in arguments.architectures:
            card = train(architecture, **folders)
            score = f"{card['map']:.3f} mAP" if "map" in card else f"{card['top1']:.2f} % top-1"
            print(f"{architecture}: {score}, {card['seconds']} s on {card['device']}")
    except (ZeroQError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; start the same command again to continue after the last finished epoch")


if __name__ == "__main__":
    main()
