"""A fully connected CRF over the pixels of an image by mean-field inference (Krähenbühl & Koltun 2011).

    E(x) = −Σ_i log P_i(x_i) + Σ_{i<j} [x_i ≠ x_j] Σ_m w_m k_m(f_i, f_j)

with a Gaussian kernel over places and a bilateral one over places and colours. The kernels are normalised
symmetrically, k(i, j) / √(Σ_l k(i, l) Σ_l k(j, l)), and a pixel hears itself too, as in the authors' program.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from crnn.experiments.lattice import Lattice
from crnn.proto import pb

DIRECT = 1024  # pixels up to which every pair is summed, exactly


class Direct:
    """Σ_j exp(−|f_i − f_j|² / 2) v_j, pair by pair: what `Lattice` approximates.    features: [P, d]."""

    def __init__(self, features: np.ndarray):
        f = torch.from_numpy(features)
        self.kernel = torch.exp(
            -torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        ).float()

    def __call__(self, values: Tensor) -> Tensor:
        return self.kernel @ values


def features(image: np.ndarray, param: pb.CrfParameter) -> list[tuple[float, np.ndarray]]:
    """(weight, float64 [P, d] in standard deviations) of each kernel for an image [C, h, w]."""
    C, h, w = image.shape
    places = np.indices((h, w)).reshape(2, -1).T.astype(np.float64)
    colours = image.reshape(C, -1).T.astype(np.float64) / param.colour_std
    return [
        (param.gaussian_weight, places / param.gaussian_std),
        (param.bilateral_weight, np.concatenate([places / param.bilateral_std, colours], 1)),
    ]


def refine(
    probabilities: np.ndarray,
    image: np.ndarray,
    param: pb.CrfParameter,
    filter_of: Callable[[np.ndarray], Callable[[Tensor], Tensor]] | None = None,
) -> np.ndarray:
    """float32 [n, h, w], the mean field Q after `param.iterations`, from the softmax P [n, h, w] of a net.

    image: [C, h, w], values 0 to 255.    filter_of: `Direct` or `Lattice`; by default the first for small
    images. Raises ValueError if the sizes differ.
    """
    n, h, w = probabilities.shape
    if image.shape[1:] != (h, w):
        raise ValueError(f"the image is {image.shape[1:]}, the probabilities {(h, w)}")
    make = filter_of or (Direct if h * w <= DIRECT else Lattice)
    P = torch.from_numpy(np.ascontiguousarray(probabilities, np.float32)).flatten(1).T  # [pixels, n]
    kernels = []
    for weight, f in features(image, param):
        if weight:
            smooth = make(f)
            norm = smooth(torch.ones(h * w, 1)).clamp(min=1e-20).rsqrt()
            kernels.append((weight, smooth, norm))
    logs, Q = P.clamp(min=1e-20).log(), P
    for _ in range(param.iterations):
        messages = sum(weight * norm * smooth(norm * Q) for weight, smooth, norm in kernels)
        Q = (logs + messages).softmax(1)
    return Q.T.reshape(n, h, w).numpy()
