"""A published topology with fewer channels, for small images and few classes."""

from torch import nn

from zeroq.errors import ZeroQError


def narrow(network: nn.Module, factor: int, *, in_channels: int, classes: int) -> nn.Module:
    """Divide every channel count of a randomly initialised classifier by ``factor``, in place.

    Depth, kernels, strides, groups of grouped convolutions and the order of the layers stay; depthwise
    convolutions stay depthwise. The first convolution takes ``in_channels``, the last layer gives ``classes``.
    The new layers are initialised as torch does. Returns the network.

    Raises ZeroQError where a channel count is no multiple of ``factor``.
    """
    weighted = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    first, last = weighted[0], weighted[-1]

    def divided(channels: int, name: str) -> int:
        if channels % factor:
            raise ZeroQError(f"{name} has {channels} channels, which is no multiple of {factor}")
        return channels // factor

    replacement: nn.Module
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            replacement = nn.BatchNorm2d(divided(module.num_features, name), eps=module.eps, momentum=module.momentum)
        elif isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            replacement = nn.Conv2d(
                in_channels if name == first else divided(module.in_channels, name),
                classes if name == last else divided(module.out_channels, name),
                # Torch declares its attributes wider than its arguments.
                *(module.kernel_size, module.stride, module.padding, module.dilation),  # type: ignore[arg-type]
                divided(module.groups, name) if depthwise else module.groups,
                bias=module.bias is not None,
            )
        elif isinstance(module, nn.Linear):
            inputs = divided(module.in_features, name)
            outputs = classes if name == last else divided(module.out_features, name)
            replacement = nn.Linear(inputs, outputs, bias=module.bias is not None)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, replacement)
    return network
