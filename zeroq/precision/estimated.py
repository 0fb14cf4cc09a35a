"""Sensitivities to second order, from one forward and a few backward passes, however many layers and widths.

Near the float network KL is half a quadratic form in the change of the class scores, whose matrix is the Fisher
information F of the probabilities (for either direction of the KL). A layer's new weight changes its output by
Δ = layer(x; w + δ) − layer(x; w), and the scores by J Δ, so that Ω ≈ ½ Δᵀ Jᵀ F J Δ. With F = B Bᵀ and ξ ~ N(0, 1) this is
½ E[(ξᵀ Bᵀ J Δ)²]: the gradient of ⟨B ξ, scores⟩ by the layer's output, times Δ, squared.

Source: the Gauss–Newton form of the Hessian (Schraudolph, Neural Computation 2002), as mixed precision uses it in
Dong et al., HAWQ-V2 (NeurIPS 2020).
"""

# Backward passes, each with a random direction for each image.
PROBES = 4
# Images that they are for, the first: the mean over images is a mean over random directions too.
IMAGES = 8
