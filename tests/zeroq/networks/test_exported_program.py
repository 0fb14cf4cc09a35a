"""A program of torch.export has the layers of the network that it was made of."""

import pytest
import torch
from torch import nn
from torchvision import models

import zeroq
from tests.networks import HandWritten, estimate_statistics
from zeroq import ZeroQError
from zeroq.networks.exported_program import load

BATCHES = ({0: torch.export.Dim("batch")},)


def saved(network: nn.Module, path, size: int = 16, batches=BATCHES):
    program = torch.export.export(network, (torch.zeros(2, 3, size, size),), dynamic_shapes=batches)
    torch.export.save(program, path)
    return path


class Odd(nn.Module):
    """What has no module of its own: a shared weight, a transposed convolution, two outputs, names like others'."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.own = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.square, self.up = nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        features = nn.functional.relu_(self.norm(nn.functional.conv2d(images, self.own, stride=2, padding=1)))
        features = self.up(
            self.square(features) + nn.functional.conv2d(features, self.square.weight, padding=1)[..., 1:-1, 1:-1]
        )
        features *= self.scale
        return {"scores": self.head(features.mean((2, 3))).softmax(-1), "maps": [nn.functional.hardswish(features)]}


def kinds(network: nn.Module) -> dict[str, str]:
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
    return {name: type(module).__name__ for name, module in network.named_modules() if isinstance(module, layers)}


def test_layers_weights_and_outputs_are_those_of_the_network(tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(models.mobilenet_v3_small(), (3, 32, 32))
    found, shape = load(saved(network, tmp_path / "mobile.pt2", 32))
    assert shape == (3, 32, 32)
    assert kinds(found) == kinds(network)
    assert found.state_dict().keys() == network.state_dict().keys()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(found(images), network(images), atol=1e-5)
    traced = zeroq.quantize(found, 8, 8, placement="integer")
    zeroq.calibrate(traced, images)
    assert len(traced(images)) == 3


def test_operators_without_a_module_stay_operators(tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(Odd(), (3, 16, 16))
    found, _ = load(saved(network, tmp_path / "odd.pt2"))
    layers = {"norm": "BatchNorm2d", "head": "Linear", "square": "Conv2d", "up": "ConvTranspose2d"}
    assert layers.items() <= kinds(found).items()
    assert sum(kind == "Conv2d" for kind in kinds(found).values()) == 3  # one weight, two settings
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        output, expected = found(images), network(images)
    assert torch.allclose(output["scores"], expected["scores"], atol=1e-6)
    assert torch.allclose(output["maps"][0], expected["maps"][0], atol=1e-5)


def test_a_distilled_program_has_the_network_s_statistics(tmp_path):
    network = estimate_statistics(HandWritten(), (3, 16, 16))
    found, _ = load(saved(network, tmp_path / "mine.pt2"))
    images = torch.randn(2, 3, 16, 16)
    assert zeroq.batch_norm_loss(found, images) == pytest.approx(zeroq.batch_norm_loss(network, images))


def test_other_programs_are_refused(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.layer(images).view(images.shape[0], -1)

    with pytest.raises(ZeroQError, match=r"exported for batches of 2 alone; export it with dynamic_shapes="):
        load(saved(Fixed().eval(), tmp_path / "fixed.pt2", batches=None))
    with pytest.raises(ZeroQError, match="exported in training mode"):
        load(saved(HandWritten().train(), tmp_path / "training.pt2"))
    with pytest.raises(ZeroQError, match="holds no Conv or Linear layer"):
        load(saved(nn.ReLU(), tmp_path / "relu.pt2"))
    torch.export.save(torch.export.export(nn.Linear(3, 4), (torch.zeros(2, 3),)), tmp_path / "rows.pt2")
    with pytest.raises(ZeroQError, match="takes other inputs than one batch of images"):
        load(tmp_path / "rows.pt2")
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "weights.pt2")
    with pytest.raises(ZeroQError, match=r"weights.pt2 is no program of torch.export"):
        load(tmp_path / "weights.pt2")
