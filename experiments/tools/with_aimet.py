"""AIMET's sequential MSE and AdaRound, in AIMET's own environment (``experiments.tools.environment``).

Settings are those of AIMET's guides: the model prepared, BatchNorm folded, weights symmetric per channel by the
configuration for that, ranges of the scheme ``post_training_tf_enhanced``, 20 candidates of sequential MSE.
"""

import copy
import tempfile

import torch
from aimet_torch.adaround import Adaround, AdaroundParameters
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.common.defs import QuantScheme
from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from aimet_torch.seq_mse import apply_seq_mse
from torch import nn

# Its guide says 15,000 a layer below 8 bits and 10,000 else, which are hours a network without a GPU.
ITERATIONS = 500
SCHEME = QuantScheme.post_training_tf_enhanced


def quantize(
    module: nn.Module, images: torch.Tensor, weight_bits: int, activation_bits: int, *, technique: str
) -> nn.Module:
    """A network with integers simulated; its scores stay in float."""
    network = prepare_model(copy.deepcopy(module)).eval()
    fold_all_batch_norms(network, input_shapes=tuple(images[:1].shape))
    with tempfile.TemporaryDirectory() as folder:
        if technique == "adaround":
            network = Adaround.apply_adaround(
                network,
                images[:1],
                AdaroundParameters([images], num_batches=1, default_num_iterations=ITERATIONS),
                path=folder,
                filename_prefix="weights",
                default_param_bw=weight_bits,
                default_quant_scheme=SCHEME,
                default_config_file=get_path_for_per_channel_config(),
            )
        simulated = QuantizationSimModel(
            network,
            images[:1],
            SCHEME,
            default_output_bw=activation_bits,
            default_param_bw=weight_bits,
            config_file=get_path_for_per_channel_config(),
        )
        # The ranges of calibration images would cut off the scores of test images.
        simulated.model.output.output_quantizers[0] = None
        if technique == "adaround":
            simulated.set_and_freeze_param_encodings(f"{folder}/weights.encodings")
        else:
            apply_seq_mse(simulated, [images])
    with torch.no_grad():
        simulated.compute_encodings(lambda model: model(images))
    return simulated.model
