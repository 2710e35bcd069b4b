"""Kernels of machines that are not here, compiled for the one that is: called, and compared with float64."""

import torch

from crnn.ops import reference
from crnn.testing import assert_near


class Emulated:
    """The ops that an emulator's library registered under a dispatch key. Call one as torch.ops.crnn.NAME."""

    def __init__(self, key: str):
        self.keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def __getattr__(self, op):
        return lambda *args: getattr(torch.ops.crnn, op).default.redispatch(self.keys, *args)


def check_scan(emulated, case, dtype, variant, tolerance, backward="scan_backward", **changes):
    """A kernel's results, after they were compared with float64.

    States against the reference; gradients against the CPU kernel in float64 *at the states that the kernel
    computed*, so that a relu that rounding pushed over 0 does not count as an error of the gradient.
    """
    inputs = {**case.inputs(dtype), **changes}
    rest = [inputs[k] for k in ("w_hh", "cell_params", "initial", "cont")]
    flat = [int(v) for d in case.plan for v in d]
    exact = {k: None if v is None else v.double() for k, v in inputs.items()}
    state, saved = emulated.scan(inputs["z"], *rest, flat, case.cell, variant)
    assert_near(state, reference.scan(plan=case.plan, cell=case.cell, **exact), tolerance, "state")

    rng = torch.Generator().manual_seed(1)
    dstate = torch.randn(state.shape, generator=rng, dtype=torch.float64).to(dtype)
    got = getattr(emulated, backward)(dstate, *rest, state, saved, flat, case.cell, variant)
    kept = state.new_empty(*state.shape[1:4], 0, case.D) if reference.CELLS[case.cell].masked else saved
    tensors = [None if t is None else t.double() for t in (dstate, *rest, state, kept)]
    want = getattr(torch.ops.crnn, backward)(*tensors, flat, case.cell)
    names = ("dz", "dcell_params", "dinitial", "dwhh")[: 4 if backward == "scan_whole_backward" else 3]
    for name, one, other in zip(names, got, want, strict=True):
        assert_near(one, other, tolerance, name)
    return state, saved.view(torch.uint8), *got  # bytes: a mask's bits may look like NaN
