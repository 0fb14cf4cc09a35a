"""How far each kind of calibration images is from real ones, as the BatchNorm layers see them.

    python -m experiments.distances [networks=fashion/resnet18,…] [results=FOLDER]

Gaussian noise, images distilled by the fast recipe, and training images, each kind beside other training images.
A line a network, their table and their figure lie in results/distances.
"""

import sys

import hydra
import torch

from experiments.analysis.image_distances import KINDS, add
from experiments.cli.words import output_folder, results_arguments
from experiments.core.choices import CONF
from experiments.core.config import typed
from experiments.core.progress import console, progress_bar
from experiments.core.sources import load_dataset, load_network
from zeroq.distillation.distances import layer_distances
from zeroq.distillation.fast import distill_fast
from zeroq.errors import ZeroQError
from zeroq.images import gaussian_images
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.networks.zoo import ARCHITECTURES

COUNT, REFERENCE, ITERATIONS = 32, 512, 200
SEED, OTHER_SEED = 0, 1


def main() -> None:
    results, given = results_arguments(sys.argv[1:], __doc__, ("networks",))
    networks = given.get("networks", ",".join(f"fashion/{name}" for name in ARCHITECTURES)).split(",")
    folder = output_folder(results / "distances")
    try:
        for name in networks:
            console.print(name)
            add(folder, measured(name))
    except (ZeroQError, hydra.errors.HydraException) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")


def measured(name: str) -> dict:
    """A network's line."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(hydra.compose("config", [f"model={name}"]))
    network = load_network(config.model, config.data)
    training = load_dataset(config.data, network, train=True)
    reference = training.sample(REFERENCE, seed=OTHER_SEED)
    kinds = dict(zip(KINDS, calibration_images(network, training.sample(COUNT, seed=SEED)), strict=True))
    found = {kind: layer_distances(network.module, images, reference) for kind, images in kinds.items()}
    rounded = {kind: [float(f"{each:.4g}") for each in distances.values()] for kind, distances in found.items()}
    return {"network": name, "layers": list(found[KINDS[0]]), "distances": rounded}


def calibration_images(network: PretrainedNetwork, real: torch.Tensor) -> list[torch.Tensor]:
    """Images of each of ``KINDS``."""
    shape = network.input.shape
    with progress_bar("distill") as progress:
        distilled = distill_fast(
            network.module,
            shape,
            COUNT,
            ITERATIONS,
            seed=SEED,
            on_iteration=lambda iteration, loss: progress(iteration, ITERATIONS),
        )
    return [gaussian_images(shape, COUNT, seed=SEED), distilled, real]


if __name__ == "__main__":
    main()
