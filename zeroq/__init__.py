"""ZeroQ: quantize a trained convolutional network without data.

Cai, Yao, Dong, Gholami, Mahoney, Keutzer: ZeroQ: A Novel Zero Shot Quantization Framework (CVPR 2020).
"""

import lazy_loader

# PyTorch and pandas take seconds to import, and not all that imports zeroq needs them: a name of `__init__.pyi` is
# imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
