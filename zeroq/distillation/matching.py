"""Eq. 3 and its gradient with respect to the images, in few passes over a network's features."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional

from zeroq.borrowing import copied
from zeroq.distillation.batch_norm import SMALLEST_VARIANCE, Statistics, by_image, layers_to_match
from zeroq.errors import ZeroQError
from zeroq.modules import RecordedBatchNorm, first_argument, forward, model_device

# At most as many as an image's: oneDNN's vectors, of 16 channels, stay nearly empty.
FEW_CHANNELS = 4
# Of a layer's mean variance, what a channel's counts for at least in the relative loss.
LEAST_SHARE = 1e-3
# Of a convolution, for each value of its output: with as many, bfloat16 saves more than the conversions cost.
MANY_PRODUCTS = 256


class StatisticsMatching:
    """``statistics_loss`` of images under one network, with its gradient, for many images one after the other.

    The same value and gradient as by automatic differentiation, but for rounding, on a copy of the network. What it
    spares:

    - PyTorch's variance takes one value at a time. Here are two sums, of the features less the recorded mean, so that
      squares do not cancel.
    - The loss of all layers is one calculation over all their channels. Its derivative by a feature x is
      slope · x + offset, with one slope and offset for each image and channel.
    - BatchNorm's derivative and the loss's are one pass over the features instead of many.
    - What follows the last BatchNorm (a classifier, a detector's heads) is not computed.
    - Features are channels-last, where the network takes them so.
    - On a processor with instructions for bfloat16, float32 convolutions of many products use them. Their inputs and
      weights then have 8 significant bits, and the loss and its gradient are as exact as that allows.

    A BatchNorm layer that does more than scale and shift (timm's BatchNormAct2d) is called as it is. After the first
    images nothing waits for the device.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor, statistics: Statistics, *, relative: bool = False):
        """``images`` [N, C, H, W] stand for those to come, of the same number and shape.

        ``relative``: not Eq. 3, but each channel's squares over its recorded variance, averaged over the layer, so that
        no layer counts more for the scale of its features, which its BatchNorm takes out again.

        Raises ZeroQError for a network without BatchNorm, and for images that it does not accept.
        """
        self._statistics, self._relative = statistics, relative
        self._network = copied(model).eval().requires_grad_(False)
        on_cpu = model_device(model).type == "cpu"
        # Of these layers alone, not of their class: hooks and names stay.
        for layer in self._network.modules() if on_cpu else ():
            if takes_images(layer):
                layer.forward = partial(_call_convolution, layer)  # type: ignore[method-assign]
            elif gains_by_bfloat16(layer):
                layer.forward = partial(_call_in_bfloat16, _rounded(layer))  # type: ignore[method-assign]
        for layer in layers_to_match(self._network).values():
            layer.forward = partial(self._match, _Layer.of_batch_norm(layer))
        self._images = _Layer.of_images(images)
        self._calls: list[_Call] = []
        self._tokens: list[torch.Tensor] = []
        self._number_of_calls: int | None = None
        self._targets: _Targets | None = None
        with torch.no_grad():
            self._use(torch.channels_last)
            try:
                self._run(images)
            except ZeroQError:  # some networks' views want features in the usual order
                self._use(torch.contiguous_format)
                self._run(images)
        self._number_of_calls = len(self._calls)

    def loss_and_gradient(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, a scalar on the images' device, and its gradient, of the images' shape and type."""
        leaf = images.detach().requires_grad_()
        with torch.enable_grad():
            self._run(leaf)
        if self._targets is None or not self._targets.fit(self._calls):
            self._targets = _Targets(self._calls, relative=self._relative)
        loss = self._targets.differentiate(self._calls, 1 if self._statistics == "batch" else len(images))
        tokens = [token for token in self._tokens if token.requires_grad]
        (gradient,) = torch.autograd.grad(tokens, [leaf], tokens)
        self._calls.clear()
        self._tokens.clear()
        return loss, gradient

    def _use(self, memory_format: torch.memory_format) -> None:
        self._memory_format = memory_format
        self._network.to(memory_format=memory_format)

    def _run(self, images: torch.Tensor) -> None:
        """A forward pass as far as the last BatchNorm layer, which leaves the calls that count."""
        self._calls.clear()
        self._tokens.clear()
        images = images.contiguous(memory_format=self._memory_format)
        self._count = len(images)
        with suppress(_LastLayerReachedError):
            forward(self._network, self._matched(self._images, images))

    def _match(self, layer: "_Layer", *inputs: Any, **named: Any) -> Any:
        """Stands in for a BatchNorm layer's forward."""
        features = first_argument(inputs, named)
        if layer.scales is None:
            layer.examine(features)
        normalized = self._matched(layer, features)
        if len(self._calls) == self._number_of_calls:
            raise _LastLayerReachedError
        if layer.scales:
            return normalized
        if inputs:
            return layer.forward(normalized, *inputs[1:], **named)
        return layer.forward(**named | {next(iter(named)): normalized})

    def _matched(self, layer: "_Layer", features: torch.Tensor) -> torch.Tensor:
        arranged = by_image(features, self._count)
        call = _Call(layer, arranged, self._statistics)
        self._calls.append(call)
        result, token = _Match.apply(arranged, call)
        # Not in the call: a graph that holds what holds its end is never freed.
        self._tokens.append(token)
        return result if arranged is features else result.transpose(1, 2).flatten(0, 1)


class _LastLayerReachedError(Exception):
    """Ends a forward pass: what follows has no part in the loss."""


class _Layer:
    """What a BatchNorm layer recorded, and what it does: x ↦ (x − mean) · factor + bias, if ``scales``."""

    # Of BatchNorm layers alone, not of the images.
    factor: torch.Tensor
    bias: torch.Tensor
    forward: Callable[..., Any]

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor, eps: float):
        self.mean, self.std, self.eps = mean, (variance + eps).sqrt(), eps
        self.scales: bool | None = False

    @classmethod
    def of_images(cls, images: torch.Tensor) -> "_Layer":
        ones = torch.ones(images.shape[1], device=images.device)
        return cls(0 * ones, ones, 0.0)

    @classmethod
    def of_batch_norm(cls, norm: RecordedBatchNorm) -> "_Layer":
        kind = torch.promote_types(norm.running_var.dtype, torch.float32)
        layer = cls(norm.running_mean.to(kind), norm.running_var.to(kind), norm.eps)
        weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
        layer.factor = (1 if weight is None else weight.to(kind)) / layer.std
        layer.bias = torch.zeros_like(layer.mean) if bias is None else bias.to(kind)
        layer.forward, layer.scales = norm.forward, None
        return layer

    def weights(self) -> torch.Tensor:
        """What each channel's squares count in the relative loss; one that hardly varied counts as if it had a bit."""
        variance = self.std.square()
        return 1 / variance.clamp_min(LEAST_SHARE * variance.mean()) / len(variance)

    def examine(self, features: torch.Tensor) -> None:
        """Find out whether the layer only scales and shifts, around what it saw in training."""
        shape = (64, len(self.mean), *(2,) * (features.dim() - 2))
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.mean)
        spread = 3 * _per_channel(self.std, noise) * noise
        expected = torch.addcmul(_per_channel(self.bias, noise), spread, _per_channel(self.factor, noise))
        with torch.no_grad():
            found = self.forward((_per_channel(self.mean, noise) + spread).to(features.dtype))
        self.scales = torch.allclose(found.to(expected), expected, rtol=1e-3, atol=1e-4)


class _Call:
    """One call of a layer in a forward pass; the sums are [N, channels], or [1, channels] of the batch as a whole."""

    sums: torch.Tensor
    squares: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor

    def __init__(self, layer: _Layer, features: torch.Tensor, statistics: Statistics):
        self.layer = layer
        self.axes = (*range(2, features.dim()),) if statistics == "image" else (0, *range(2, features.dim()))
        self.places = features.numel() // features.shape[1] // (len(features) if statistics == "image" else 1)


class _Match(torch.autograd.Function):
    """Features → what follows the BatchNorm layer, and a token from which the loss's derivative starts."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, call: _Call) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        layer = call.layer
        centred = features - _per_channel(layer.mean, features)
        rows = (-1, features.shape[1])
        call.sums = (centred.sum(call.axes) if call.axes else centred).view(rows)
        call.squares = ((centred * centred).sum(call.axes) if call.axes else centred * centred).view(rows)
        ctx.call = call
        ctx.save_for_backward(centred)
        token = features.new_zeros(())
        if not layer.scales:
            return features.view_as(features), token
        bias, factor = _per_channel(layer.bias, features), _per_channel(layer.factor, features)
        return torch.addcmul(bias, centred, factor).to(features.dtype), token

    @staticmethod
    def backward(ctx: Any, following: torch.Tensor | None, token: torch.Tensor) -> tuple[torch.Tensor, None]:
        (centred,) = ctx.saved_tensors
        call, rest = ctx.call, (1,) * (centred.dim() - 2)
        slope, offset = call.slope.view(*call.slope.shape, *rest), call.offset.view(*call.offset.shape, *rest)
        if following is None:
            return torch.addcmul(offset, centred, slope), None
        if call.layer.scales:
            gradient = torch.addcmul(offset, following, _per_channel(call.layer.factor, centred))
        else:
            gradient = offset + following
        return gradient.addcmul_(centred, slope).to(following.dtype), None


class _Targets:
    """What the statistics of all calls should be, one value for each channel of each call."""

    def __init__(self, calls: list[_Call], *, relative: bool):
        self.calls = [(call.layer, call.places) for call in calls]
        self.channels = [len(call.layer.mean) for call in calls]

        def spread(value: Callable[[_Call], float]) -> torch.Tensor:
            return torch.cat([torch.full_like(call.layer.mean, value(call)) for call in calls])

        self.places = spread(lambda call: call.places)
        # One value a channel (a 1 × 1 map) has a mean, but no unbiased variance.
        self.others = spread(lambda call: max(call.places - 1, 1))
        self.varies = spread(lambda call: call.places > 1)
        self.eps = spread(lambda call: call.layer.eps)
        self.std = torch.cat([call.layer.std for call in calls])
        self.weights = torch.cat([call.layer.weights() for call in calls]) if relative else 1.0

    def fit(self, calls: list[_Call]) -> bool:
        """Whether a forward pass called the same layers on maps of the same size."""
        return self.calls == [(call.layer, call.places) for call in calls]

    def differentiate(self, calls: list[_Call], images: int) -> torch.Tensor:
        """The loss of a forward pass; gives each call the slope and offset of the loss's derivative."""
        sums = torch.cat([call.sums for call in calls], 1)
        squares = torch.cat([call.squares for call in calls], 1)
        off_mean = sums / self.places  # of centred features: how far the mean is from the recorded one
        variance = (squares - sums * off_mean) / self.others
        std = (variance.clamp_min(SMALLEST_VARIANCE) + self.eps).sqrt()
        off_std = (std - self.std) * self.varies
        loss = (self.weights * (off_mean.square() + off_std.square())).sum() / images
        factor = 2 * self.weights / images
        slopes = factor * off_std / (std * self.others) * (variance > SMALLEST_VARIANCE)
        offsets = factor * off_mean / self.places - slopes * off_mean
        for call, slope, offset in zip(
            calls, slopes.split(self.channels, 1), offsets.split(self.channels, 1), strict=True
        ):
            call.slope, call.offset = slope, offset
        return loss


class _FewChannelConvolution(torch.autograd.Function):
    """A convolution whose derivative by its input is a matrix product, summed where windows overlap."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
        ctx.layer, ctx.size = layer, images.shape[2:]
        return functional.conv2d(images, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation)

    @staticmethod
    def backward(ctx: Any, following: torch.Tensor) -> tuple[torch.Tensor, None]:
        layer = ctx.layer
        windows = layer.weight.flatten(1).T @ following.flatten(2)
        sides = {"dilation": layer.dilation, "padding": layer.padding, "stride": layer.stride}
        return functional.fold(windows, ctx.size, layer.kernel_size, **sides), None


def _call_convolution(layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    return _FewChannelConvolution.apply(images, layer)


def _rounded(layer: nn.Conv2d) -> nn.Conv2d:
    """A bfloat16 copy, channels-last, without hooks: those are the layer's."""
    copied = nn.Conv2d(
        # Torch declares its attributes wider than its arguments.
        *(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation),  # type: ignore[arg-type]
        bias=layer.bias is not None,
        device="meta",
    )
    copied.load_state_dict(dict(layer.named_parameters()), assign=True)
    return copied.requires_grad_(False).to(torch.bfloat16).to(memory_format=torch.channels_last)


def _call_in_bfloat16(rounded: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
    return rounded(features.bfloat16()).float()


def takes_images(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution over channels as few as an image's, as most networks' first one is."""
    return is_plain_convolution(layer) and layer.in_channels <= FEW_CHANNELS and not isinstance(layer.padding, str)


def gains_by_bfloat16(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether this processor computes a convolution faster in bfloat16, conversions included."""
    return (
        is_plain_convolution(layer)
        and layer.weight.dtype == torch.float32
        and layer.weight[0].numel() >= MANY_PRODUCTS
        and has_bfloat16()
    )


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16; without them it is slower than float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def is_plain_convolution(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is PyTorch's own two-dimensional convolution, ungrouped and padded with zeros."""
    own_weights = {name for name, _ in layer.named_parameters()} <= {"weight", "bias"}  # no norm of a weight's
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros" and own_weights


def _per_channel(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """[channels] as it broadcasts over features [N, channels, …]."""
    return values.view(-1, *(1,) * (features.dim() - 2))
