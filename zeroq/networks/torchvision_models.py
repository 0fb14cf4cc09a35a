"""Any classifier of torchvision, with the preprocessing that its weights come with."""

from pathlib import Path

from torch import hub
from torchvision import models

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import downloading
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork


def load(architecture: str, checkpoint: Path | None = None, *, classes: int | None = None) -> PretrainedNetwork:
    """A torchvision classifier in evaluation mode, with torchvision's newest weights or those of a checkpoint.

    ``classes`` is the number of outputs, where the checkpoint has another one than ImageNet's 1,000.

    Raises ZeroQError for an unknown architecture, for weights that cannot be downloaded, and for a checkpoint
    that does not fit.
    """
    # Only classifiers: the names of detectors and others carry their package.
    known = models.list_models(module=models)
    if architecture not in known:
        raise ZeroQError(f"torchvision has no classifier {architecture!r}; it has {', '.join(known)}")
    weights = models.get_model_weights(architecture).DEFAULT
    # Inception's and GoogLeNet's auxiliary heads are dropped after loading, as torchvision does it.
    options = {"aux_logits": True, "transform_input": False} if architecture in ("inception_v3", "googlenet") else {}
    if classes is not None:
        if checkpoint is None:
            raise ZeroQError(f"torchvision has no weights for {classes} classes; give yours with model.checkpoint=…")
        options["num_classes"] = classes
    if checkpoint is None:
        with downloading(architecture, url=weights.url, folder=Path(hub.get_dir()) / "checkpoints"):
            network = models.get_model(architecture, weights=weights, **options)
    else:
        network = models.get_model(architecture, weights=None, **options)
        load_checkpoint(network, checkpoint)
    transforms = weights.transforms()
    specification = InputSpecification(
        shape=(3, *transforms.crop_size * 2),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
    )
    return PretrainedNetwork(network.eval(), specification)
