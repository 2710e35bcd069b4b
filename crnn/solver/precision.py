"""Arithmetic in two bytes: torch's autocast, and a scale of the loss for float16. Blobs stay float32."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: GradScaler's state: the type of each number, and what it lies between.
_STATE = {
    "scale": (float, 0, math.inf),
    "growth_factor": (float, 1, math.inf),
    "backoff_factor": (float, 0, 1),
    "growth_interval": (int, 0, math.inf),
    "_growth_tracker": (int, -1, math.inf),
}


def is_state(state) -> bool:
    """Whether something read from a file has the form of `Precision.state`."""
    if state == {}:
        return True
    return (type(state) is dict and state.keys() == _STATE.keys()) and all(
        type(state[name]) is kind and low < state[name] < high for name, (kind, low, high) in _STATE.items()
    )


class Precision:
    """How the passes of one solver compute.

    name: float32, bfloat16 or float16.
    blobs: the parameters whose gradients the scale is taken out of.
    """

    def __init__(self, name: str, device: torch.device, blobs: list[Tensor]):
        self.device, self.dtype = device.type, DTYPES[name]
        # Small gradients vanish in float16: torch multiplies the loss, and halves that after an overflow.
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.dtype is torch.float16)
        self.applied = _Update(blobs) if self.scaler.is_enabled() else None

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None)

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def update(self, apply: Callable[[], None]) -> bool:
        """Calls `apply` on the gradients themselves; not, and False, where the scale made them overflow."""
        if self.applied is None:
            apply()
            return True
        self.applied.apply, self.applied.done = apply, False
        self.scaler.step(self.applied)
        self.scaler.update()
        return self.applied.done

    def state(self) -> dict:
        return self.scaler.state_dict()

    def restore(self, state: dict) -> None:
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)


class _Update(torch.optim.Optimizer):
    """A solver's update as GradScaler wants it."""

    def __init__(self, blobs: list[Tensor]):
        super().__init__(blobs, {})
        self.apply: Callable[[], None] | None = None
        self.done = False

    def step(self, closure=None):
        self.apply()
        self.done = True
