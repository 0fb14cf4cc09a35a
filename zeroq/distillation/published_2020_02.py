"""The published recipe with the published code's own eps, 1e-6 under every root; in force from February 2020 on."""

from functools import partial

from zeroq.distillation.published import PUBLISHED_EPS, distill
from zeroq.distillation.recipe import Recipe

RECIPE = Recipe("published_2020_02", partial(distill, eps=PUBLISHED_EPS), iterations=500)
