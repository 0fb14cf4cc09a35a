"""Sony's MCT: gradient-based quantization (GPTQ) and data generation, in its own environment.

Settings are MCT's defaults, GPTQ's 50 epochs those of its guide. Targets that MCT ships have activations of 8 bits;
4 bits are the target for the IMX500 (version 1) with those numbers changed, as its source suggests for experiments.
"""

import torch
from model_compression_toolkit.core import CoreConfig, DebugConfig
from model_compression_toolkit.core.common.network_editors import (
    ChangeCandidatesActivationQuantConfigAttr,
    EditRule,
    NodeNameFilter,
)
from model_compression_toolkit.core.common.quantization.node_quantization_config import ActivationQuantizationMode
from model_compression_toolkit.data_generation import (
    get_pytorch_data_generation_config,
    pytorch_data_generation_experimental,
)
from model_compression_toolkit.gptq import get_pytorch_gptq_config, pytorch_gradient_post_training_quantization
from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
from model_compression_toolkit.target_platform_capabilities.schema.mct_current_schema import TargetPlatformCapabilities
from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0.tpc import (
    generate_tpc,
    get_op_quantization_configs,
)
from torch import nn

EPOCHS, BATCH = 50, 8
# Mean and standard deviation of the normalisation that data generation works in.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def quantize(module: nn.Module, images: torch.Tensor, weight_bits: int, activation_bits: int) -> nn.Module:
    """A network with integers simulated; its scores stay in float."""
    unquantized = ChangeCandidatesActivationQuantConfigAttr(quant_mode=ActivationQuantizationMode.NO_QUANT)
    quantized, _ = pytorch_gradient_post_training_quantization(
        nn.Sequential(module).eval(),  # MCT takes a layer that is named output for the end of the graph
        lambda: ([batch.numpy()] for batch in images.split(BATCH)),
        # The ranges of calibration images would cut off the scores of test images.
        core_config=CoreConfig(
            debug_config=DebugConfig(network_editor=[EditRule(NodeNameFilter("_0_output"), unquantized)])
        ),
        gptq_config=get_pytorch_gptq_config(n_epochs=EPOCHS),
        target_platform_capabilities=target(weight_bits, activation_bits),
    )
    return quantized


def target(weight_bits: int, activation_bits: int) -> TargetPlatformCapabilities:
    """The IMX500's capabilities with every layer in one width."""
    layers, _, others = get_op_quantization_configs()
    activations = {"activation_n_bits": activation_bits, "supported_input_activation_n_bits": (activation_bits,)}
    layers = layers.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: weight_bits}}, **activations)
    return generate_tpc(others.clone_and_edit(**activations), layers, [layers], f"W{weight_bits}A{activation_bits}")


class Grey(nn.Module):
    """The three channels that data generation is made for → the one of a grey network, normalised as it expects."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std
        self.register_buffer("offset", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ((images * self.scale + self.offset).mean(1, keepdim=True) - self.mean) / self.std


def generate(
    module: nn.Module, count: int, *, shape: tuple[int, int, int], mean: tuple[float], std: tuple[float], **_
) -> torch.Tensor:
    """Images [count, 1, H, W] by MCT's data generation with its defaults."""
    grey = Grey(mean[0], std[0])
    images = pytorch_data_generation_experimental(
        nn.Sequential(grey, module).eval(), count, tuple(shape[1:]), get_pytorch_data_generation_config()
    )
    with torch.no_grad():
        return grey(torch.cat(list(images)))
