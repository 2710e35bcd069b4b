"""Where new nets live, and what torch draws: caffe.set_mode_gpu, set_device, set_random_seed."""

import torch

_device = torch.device("cpu")
_index = 0
seeded = False  # whether the user has called set_random_seed


def device() -> torch.device:
    return _device


def set_mode_cpu() -> None:
    global _device
    _device = torch.device("cpu")


def set_mode_gpu() -> None:
    """Nets made from now on run on the GPU. Raises ValueError where there is none."""
    global _device
    if not torch.cuda.is_available():
        raise ValueError("set_mode_gpu: torch sees no GPU here; leave the call out or use set_mode_cpu()")
    _device = torch.device("cuda", _index)


def set_device(index: int) -> None:
    """The GPU that set_mode_gpu means. Raises ValueError for one that is not there."""
    global _device, _index
    if not 0 <= index < torch.cuda.device_count():
        raise ValueError(f"set_device: there is no GPU {index}; torch sees {torch.cuda.device_count()}")
    _index = index
    if _device.type == "cuda":
        _device = torch.device("cuda", index)


def set_random_seed(seed: int) -> None:
    """Seeds what fillers, dropout and random crops draw, and solvers that have no random_seed."""
    global seeded
    torch.manual_seed(seed)
    seeded = True
