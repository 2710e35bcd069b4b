"""Gaussian filtering in d dimensions on the permutohedral lattice (Adams, Baek, Davis 2010).

Values are splatted from points onto the corners of the simplex that holds each, blurred along the d + 1 axes
of the lattice and sliced back: O(P d²) for P points, where the direct sum takes O(P² d).
"""

import numpy as np
import torch
from torch import Tensor


class Lattice:
    """About Σ_j exp(−|f_i − f_j|² / 2) v_j for all points i, of fixed features f.

    features: float [P, d].
    """

    def __init__(self, features: np.ndarray):
        corners, weights = simplices(features)
        d = features.shape[1]
        # A corner's code fits into 64 bits, as coordinates count standard deviations. Two steps of room at
        # both ends, so that no neighbour's code is another corner's.
        low = corners.min((0, 1)) - 2 * (d + 1)
        sizes = corners.max((0, 1)) + 2 * (d + 1) - low + 1
        if np.prod(sizes.astype(float)) >= 2.0**63:
            raise ValueError(
                f"a lattice of {sizes.tolist()} cells is too large: the features are too far apart"
            )
        place = np.concatenate([np.cumprod(sizes[:0:-1])[::-1], [1]]).astype(np.int64)
        codes, index = np.unique((corners - low) @ place, return_inverse=True)
        self.index = torch.from_numpy(index.reshape(corners.shape[:2]))  # [P, d + 1]
        self.weights = torch.from_numpy(weights.astype(np.float32))
        # The neighbours along axis j: one more in every coordinate, d less in coordinate j, and the opposite.
        steps = [place.sum() - (d + 1) * (place[j] if j < d else 0) for j in range(d + 1)]
        self.neighbours = [(_find(codes, codes + step), _find(codes, codes - step)) for step in steps]
        self.count, self.gain = len(codes), 1 / (1 + 2.0**-d)

    def __call__(self, values: Tensor) -> Tensor:
        """float32 [P, n] -> [P, n]."""
        grid = values.new_zeros(self.count + 1, values.shape[1])  # the last one: where no corner is
        for corner in range(self.index.shape[1]):
            grid.index_add_(0, self.index[:, corner], self.weights[:, corner, None] * values)
        for before, after in self.neighbours:
            grid[:-1] += 0.5 * (grid[before] + grid[after])
        return self.gain * sum(
            self.weights[:, corner, None] * grid[self.index[:, corner]]
            for corner in range(self.index.shape[1])
        )


def _find(codes: np.ndarray, wanted: np.ndarray) -> Tensor:
    """The places of `wanted` among the sorted `codes`; len(codes) for those that are not there."""
    places = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
    return torch.from_numpy(np.where(codes[places] == wanted, places, len(codes)))


def simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(corners int64 [P, d + 1, d], barycentric weights [P, d + 1]) of the simplex around each point.

    A corner is named by the first d of its d + 1 coordinates, whose sum is zero.
    """
    points, d = features.shape
    # Onto the plane of coordinate sum zero, where the blur's variance, (d + 1)² 2/3, is 1 of the features.
    scaled = features * (np.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2)))
    elevated = np.zeros((points, d + 1))
    elevated[:, 1:] = -np.arange(1, d + 1) * scaled
    elevated[:, :d] += scaled[:, ::-1].cumsum(1)[:, ::-1]
    # The nearest point whose coordinates are multiples of d + 1, and the order of what remains.
    nearest = np.rint(elevated / (d + 1)).astype(np.int64)
    excess = nearest.sum(1, keepdims=True)
    rank = np.argsort(np.argsort(nearest * (d + 1) - elevated, 1, kind="stable"), 1, kind="stable") + excess
    shift = np.where(rank < 0, 1, np.where(rank > d, -1, 0))
    nearest, rank = (nearest + shift) * (d + 1), rank + shift * (d + 1)
    share = (elevated - nearest) / (d + 1)
    weights, rows = np.zeros((points, d + 2)), np.arange(points)[:, None]
    weights[rows, d - rank] += share
    weights[rows, d + 1 - rank] -= share
    weights[:, 0] += 1 + weights[:, d + 1]
    k = np.arange(d + 1)
    offset = np.where(k <= d - k[:, None], k[:, None], k[:, None] - (d + 1))  # [corner, rank]
    corners = nearest[:, None, :d] + offset[:, rank[:, :d]].transpose(1, 0, 2)
    return corners, weights[:, : d + 1]
