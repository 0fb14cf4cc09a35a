"""OCS: channels with outliers are split, so that one weight range a tensor suffices.

Zhao, Hu, Dotzel, De Sa, Zhang, *Improving Neural Network Quantization without Retraining using Outlier Channel
Splitting* (ICML 2019), of weights; the size counts what is added. All layers are split, the first one too, which the
paper leaves in float. Activations have min–max ranges from the calibration images. With ``weight_clipping=
"squared_error"`` what is left is clipped, as the paper also tries.
"""

from zeroq.methods import Method

METHOD = Method("ocs", uniform=True, per_channel=False, expansion=0.01)
