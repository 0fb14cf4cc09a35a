"""Any classifier of torchvision, with the preprocessing that its weights come with."""

from pathlib import Path

from torchvision import models

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint, read_state_dict
from zeroq.networks.download import is_published, published_file
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

# Heads that only training uses: their weights would count in the size, and no output depends on them.
WITH_AUXILIARY_HEADS = {"inception_v3": ("AuxLogits",), "googlenet": ("aux1", "aux2")}


def load(architecture: str, checkpoint: Path | None = None, *, classes: int | None = None) -> PretrainedNetwork:
    """A torchvision classifier in evaluation mode, with torchvision's newest weights or those of a checkpoint.

    The preprocessing is that of the weights: of those that a checkpoint is a copy of, byte by byte, else of the newest.
    ``classes`` is the number of outputs, where the checkpoint has another one than ImageNet's 1,000.

    Raises ZeroQError for an unknown architecture, for weights that cannot be downloaded, and for a checkpoint
    that does not fit.
    """
    # Only classifiers: the names of detectors and others carry their package.
    known = models.list_models(module=models)
    if architecture not in known:
        raise ZeroQError(f"torchvision has no classifier {architecture!r}; it has {', '.join(known)}")
    weights = published_weights(architecture, checkpoint)
    if checkpoint is None:
        if classes is not None:
            raise ZeroQError(f"torchvision has no weights for {classes} classes; give yours, checkpoint=…")
        checkpoint = published_file(architecture, weights.url)
    options = {} if classes is None else {"num_classes": classes}
    if architecture in WITH_AUXILIARY_HEADS:
        auxiliary = any("aux" in name.lower() for name in read_state_dict(checkpoint))
        options |= {"init_weights": False, "aux_logits": auxiliary}
    network = models.get_model(architecture, weights=None, **options)
    load_checkpoint(network, checkpoint)
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if architecture in WITH_AUXILIARY_HEADS:
        for head in WITH_AUXILIARY_HEADS[architecture]:
            setattr(network, head, None)
        if is_published(checkpoint, weights.url):
            # These weights were trained on pixels in -1…1. torchvision normalises as always, and lets the network
            # transform its input; here the normalisation itself is the right one.
            network.transform_input = False
            mean = std = (0.5, 0.5, 0.5)
    specification = InputSpecification(
        shape=(3, *transforms.crop_size * 2),
        mean=mean,
        std=std,
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
    )
    return PretrainedNetwork(network.eval(), specification)


def published_weights(architecture: str, checkpoint: Path | None) -> models.Weights:
    """torchvision's entry of the weights that a checkpoint is a copy of; else of the newest."""
    known = models.get_model_weights(architecture)
    if checkpoint is None or not checkpoint.is_file():
        return known.DEFAULT
    return next((weights for weights in known if is_published(checkpoint, weights.url)), known.DEFAULT)
