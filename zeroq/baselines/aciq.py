"""ACIQ: activations clipped where their distribution says, mean and norm of rounded weights corrected.

Banner, Nahshan, Soudry, *Post training 4-bit quantization of convolutional networks for rapid-deployment* (NeurIPS
2019). The distributions of activations are told from the calibration images, and weights have min–max ranges, as in the
paper. Left out is its third part, bits for each channel of one layer: a layer here has one width, and an activation one
range.
"""

from zeroq.methods import Method

METHOD = Method("aciq", uniform=True, bias_correction="weights", clipping="analytic")
