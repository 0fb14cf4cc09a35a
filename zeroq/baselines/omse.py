"""OMSE: ranges of least squared error, of weights and activations.

Choukroun, Kravchik, Yang, Kisilev, *Low-bit Quantization of Neural Networks for Efficient Inference* (ICCV workshops
2019). Each output channel of a weight has the grid that is closest to it, and each activation the one that is closest
to its values on the calibration images. The grids are those of all methods here, asymmetric but for placement
``integer``; the paper's second tensor for the layers that err most is left out, since no integer kernel adds up two.
"""

from zeroq.methods import Method

METHOD = Method("omse", uniform=True, weight_clipping="squared_error", clipping="squared_error")
