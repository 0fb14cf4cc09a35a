"""White noise as images with the spectrum and the colours of natural ones, and back.

Statistics of BatchNorm layers leave open how neighbouring pixels go together, since many images share them. What holds
for nearly every picture fills the gap: power falls as frequency to the −2…−3, and colour channels agree. Source: van
der Schaaf and van Hateren 1996 (spectrum); Olah et al. 2017 (optimising images in such coordinates).
"""

import torch

# Power falls as frequency to the −2.5, amplitude as its root.
FALL = 1.25
# Between any two colour channels.
CORRELATION = 0.9


class NaturalSpectrum:
    """A symmetric linear map A on images [N, C, H, W]; of white noise it makes images of variance 1 in each channel.

    As A is symmetric, it also takes a derivative by images to the derivative by the noise that they are made from.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device):
        """``shape`` is (channels, height, width) in pixels."""
        channels, self._height, self._width = shape
        # No wave is longer than the image's longer side.
        lowest = 1 / max(self._height, self._width)
        rows = torch.fft.fftfreq(self._height, device=device)[:, None]
        amplitudes = torch.hypot(rows, torch.fft.fftfreq(self._width, device=device)).clamp_min(lowest) ** -FALL
        self._amplitudes = (amplitudes / amplitudes.square().mean().sqrt())[:, : self._width // 2 + 1]
        covariance = torch.full((channels, channels), CORRELATION, device=device).fill_diagonal_(1)
        powers, axes = torch.linalg.eigh(covariance)
        self._mixing = axes * powers.sqrt() @ axes.T

    def __call__(self, noise: torch.Tensor) -> torch.Tensor:
        """A · noise, float [N, C, H, W]."""
        waves = torch.fft.rfft2(noise) * self._amplitudes
        smooth = torch.fft.irfft2(waves, s=(self._height, self._width))
        return torch.einsum("dc,nchw->ndhw", self._mixing, smooth)
