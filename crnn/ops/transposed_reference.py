"""Transposed matrices in plain torch: the definition that every backend is tested against."""

from torch import Tensor


def transposed(x: Tensor) -> Tensor:
    """x [N, A, B] as a contiguous [N, B, A]. As `crnn.ops.transposed`."""
    return x.mT.contiguous()
