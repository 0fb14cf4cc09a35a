"""Eq. 3 against numpy in float64, wherever a layer holds statistics."""

import numpy
import pytest
import torch
from torch import nn

import zeroq
from tests.zeroq.distillation.networks import Tokens
from zeroq.distillation.batch_norm import batch_norm_inputs, by_image, statistics_loss
from zeroq.modules import batch_norms


def reference_loss(model: nn.Module, images: torch.Tensor, statistics: str, eps: float | None = None) -> float:
    """Eq. 3 in numpy, float64, from inputs collected without the library's hooks."""
    inputs = []
    handles = [
        module.register_forward_pre_hook(lambda module, x: inputs.append((module, x[0].double().numpy())))
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    axes = (2, 3) if statistics == "image" else (0, 2, 3)
    x = images.double().numpy()
    total = (x.mean(axes) ** 2).sum() + ((numpy.sqrt(x.var(axes, ddof=1) + (eps or 0)) - 1) ** 2).sum()
    for module, x in inputs:
        mean, variance = module.running_mean.double().numpy(), module.running_var.double().numpy()
        added = module.eps if eps is None else eps
        deviation = numpy.sqrt(x.var(axes, ddof=1) + added)
        total += ((x.mean(axes) - mean) ** 2).sum() + ((deviation - numpy.sqrt(variance + added)) ** 2).sum()
    return total / (len(images) if statistics == "image" else 1)


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_loss_is_equation_3(hand_written, images, statistics):
    hand_written.norm.eps = 0.1  # each layer's own eps counts
    expected = reference_loss(hand_written, images, statistics)
    assert zeroq.batch_norm_loss(hand_written, images, statistics=statistics) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_one_eps_for_all(hand_written, images, statistics):
    hand_written.norm.eps = 0.1
    with torch.no_grad(), batch_norm_inputs(hand_written) as recorded:
        hand_written(images)
    for eps in (0.0, 1e-6, 0.5):
        loss = statistics_loss(images, recorded, statistics, eps=eps).item()
        assert loss == pytest.approx(reference_loss(hand_written, images, statistics, eps), rel=1e-5)


def test_shared_batch_norm_counts_every_use(hand_written, images):
    with torch.no_grad(), batch_norm_inputs(hand_written) as recorded:
        hand_written(images)
    assert len(batch_norms(hand_written)) == 5
    assert len(recorded) == 7  # blocks[0] runs twice


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_statistics_are_recorded_wherever_a_layer_holds_them(images, statistics):
    torch.manual_seed(0)
    model = Tokens().eval()
    names = ("volume", "instance", "tokens", "vector")
    assert tuple(batch_norms(model)) == ("volume", "instance", "tokens", "vector")
    with torch.no_grad():
        x = images
        one = model.volume(x.unsqueeze(2)).squeeze(2)
        two = model.instance(one)
        three = model.tokens(two.flatten(2))  # the same as over [images · tokens, channels]
        seen = dict(
            zip(names, (x.flatten(2), one.flatten(2), two.flatten(2), three.mean(2, keepdim=True)), strict=True)
        )
    axes = 2 if statistics == "image" else (0, 2)

    def distance(values, mean, variance, eps):
        values = values.double().numpy()
        squares = (values.mean(axes) - mean) ** 2
        if values.shape[2] > 1 or statistics == "batch":  # one value has no deviation
            squares = squares + (numpy.sqrt(values.var(axes, ddof=1) + eps) - numpy.sqrt(variance + eps)) ** 2
        return squares.sum() / (len(values) if statistics == "image" else 1)

    expected = distance(images.flatten(2), 0, 1, 0)
    for name, layer in batch_norms(model).items():
        expected += distance(seen[name], layer.running_mean.numpy(), layer.running_var.numpy(), layer.eps)
    assert zeroq.batch_norm_loss(model, images, statistics=statistics) == pytest.approx(expected, rel=1e-5)
    del model.instance.eps
    with pytest.raises(zeroq.ZeroQError, match=r"'instance' \(InstanceNorm2d\) holds BatchNorm statistics but no eps"):
        batch_norms(model)


def test_batch_norm_called_with_a_keyword():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(input=x)

    images = torch.randn(2, 3, 8, 8)
    assert zeroq.batch_norm_loss(Named(), images) == pytest.approx(
        2 * reference_loss(nn.Flatten(), images, "image"), rel=1e-3
    )


@pytest.mark.parametrize("places", [(), (5,), (5, 7)])
@pytest.mark.parametrize("windows", [1, 4])
def test_rows_are_divided_among_images_in_order(windows, places):
    features = torch.randn(3 * windows, 2, *places)
    found = by_image(features, 3)
    assert found.shape[:2] == (3, 2)
    for image in range(3):
        own = features[image * windows : (image + 1) * windows]  # [windows, channels, places…]
        assert torch.equal(found[image].flatten(1), own.transpose(0, 1).flatten(1))
    with pytest.raises(zeroq.ZeroQError, match="cannot be divided among 5 images"):
        by_image(features, 5)
