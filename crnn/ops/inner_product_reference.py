"""The inner product in plain torch: the definition that every backend is tested against."""

from torch import Tensor


def inner_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, K] weight [O, K]^T -> [N, O]. As `crnn.ops.inner_product`."""
    return x @ weight.T
