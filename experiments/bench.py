"""Time each stage beside its reference, and write JSON and a table to ``results/benchmarks``.

    python -m experiments.bench [stages=distill,sensitivity,frontier,rounding,calibrate,evaluate]
                                [networks=fashion/resnet18,…] [device=cpu] [repetitions=5] [imagenet=FOLDER]
                                [results=FOLDER]

A stage and its reference take turns in one process, so that both meet the same load. What was measured before stays in
the table unless it is measured again: after each line all is written, and a bench that was stopped goes on with the
stages that are left. ``imagenet`` is a folder of photographs in ImageNet's layout, to time how they are read.
"""

import sys
from pathlib import Path

import torch

from experiments.benchmarks.cases import STAGES, cases
from experiments.benchmarks.table import Benchmarks, machine
from experiments.benchmarks.timing import measured
from experiments.cli.words import output_folder, results_arguments
from zeroq.errors import ZeroQError

WORDS = ("stages", "networks", "device", "repetitions", "imagenet")


def main() -> None:
    results, given = results_arguments(sys.argv[1:], __doc__, WORDS)
    device, repetitions = given.get("device", "cpu"), int(given.get("repetitions", 5))
    stages = given.get("stages", ",".join(STAGES)).split(",")
    if unknown := set(stages) - set(STAGES):
        sys.exit(f"error: there is no stage {', '.join(sorted(unknown))}; stages are {', '.join(STAGES)}")
    networks = given["networks"].split(",") if "networks" in given else None
    photographs = Path(given["imagenet"]) if "imagenet" in given else None
    folder = output_folder(results / "benchmarks")
    benchmarks = Benchmarks(folder, machine(device))
    try:
        for case in cases(stages, networks, torch.device(device), photographs):
            found = measured(case, repetitions)
            benchmarks.add(found)
            print(found.line(), flush=True)
    except (ZeroQError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(f"Written to {folder}")


if __name__ == "__main__":
    main()
