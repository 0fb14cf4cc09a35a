"""Other tools' 8-bit quantization with distilled images, with noise and with real images, all scored alike.

    pip install -r requirements-tools.txt
    python -m experiments.other_tools [tools=onnxruntime,nncf,pt2e] [networks=fashion/resnet18,…] [seeds=0,1,2]
                                      [imagenet=FOLDER] [results=FOLDER]

Photographs in ImageNet's layout, in the folder ``imagenet``, are for networks=imagenet/efficientnet_lite0. What is done
already is skipped. Scores lie in results/other_tools, and beside them their table.
"""

import sys
from itertools import product
from pathlib import Path

from experiments.cli.words import output_folder, results_arguments
from experiments.tools.calibration import NETWORKS
from experiments.tools.comparison import TOOLS, compare, tools_table
from zeroq.errors import ZeroQError

WORDS = ("tools", "networks", "seeds", "imagenet")


def main() -> None:
    results, given = results_arguments(sys.argv[1:], __doc__, WORDS)
    tools = given.get("tools", ",".join(TOOLS)).split(",")
    networks = given.get("networks", ",".join(NETWORKS)).split(",")
    if unknown := [tool for tool in tools if tool not in TOOLS]:
        sys.exit(f"error: there is no tool {unknown[0]!r}; they are {', '.join(TOOLS)}")
    folder = output_folder(results / "other_tools")
    try:
        seeds = [int(seed) for seed in given.get("seeds", "0,1,2").split(",")]
        for name, seed in product(networks, seeds):
            compare(folder, name, seed, tools, Path(given.get("imagenet", "data/imagenet")))
        tools_table(folder).write(folder / "table")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install -r requirements-tools.txt")
    except (ZeroQError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
