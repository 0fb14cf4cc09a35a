"""Other tools' quantization beside this project's, all with the same networks, images and test set.

    pip install -r requirements-tools.txt
    python -m experiments.other_tools [tools=onnxruntime,nncf,pt2e,mct,aimet_seqmse,aimet_adaround,zeroq,zeroq+]
                                      [networks=fashion/resnet18,…] [seeds=0,1,2] [imagenet=FOLDER] [results=FOLDER]

At W8/A8 with distilled images, with noise and with real ones, and with distilled images at W4/A8 and W4/A4. MCT and
AIMET get virtual environments of their own, in outputs/environments. Photographs in ImageNet's layout, in the folder
``imagenet``, are for networks=imagenet/efficientnet_lite0. What is done already is skipped. Scores lie in
results/other_tools, a file a tool, and beside them their tables; without its file a tool is scored anew.
"""

import sys
from itertools import product
from pathlib import Path

from experiments.cli.words import output_folder, results_arguments
from experiments.tools.calibration import NETWORKS
from experiments.tools.comparison import compare
from experiments.tools.offered import TOOLS
from experiments.tools.tables import write_tables
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
        write_tables(folder)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install -r requirements-tools.txt")
    except (ZeroQError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
