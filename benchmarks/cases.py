"""What is timed: the shapes of the five systems, on the CPU and on a GPU, and the inputs of a case."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from crnn.ops.reference import CELLS
from crnn.testing import FOUR, InnerProductCase, LrnCase, ScanCase, TransposedCase, UpdateCase

ROOT = Path(__file__).resolve().parents[1]
ROWS = ("right", "left")


Case = ScanCase | LrnCase | InnerProductCase | TransposedCase | UpdateCase


class Shape(NamedTuple):
    """A case by its name; `on` says for which device it is in the default list."""

    name: str
    case: Case
    on: tuple[str, ...]


def _crnn(N: int) -> ScanCase:
    """C-RNN's layer on pool5: 6 x 6 regions, windows of one line (Zuo 2015, section 3.2.3)."""
    return ScanCase("relu", "carry_value", FOUR, N, 6, 6, 256)


def _rows(N: int, side: int, D: int, cell: str = "relu") -> ScanCase:
    """The first half of an L-RNN module: every row both ways (Xie 2016, section 3)."""
    return ScanCase(cell, "reset", ROWS, N, side, side, D)


def _seg(N: int, side: int, D: int) -> ScanCase:
    """L-RNNs in the fc layers of a segmentation net: many channels (Xie 2016, section 5.2)."""
    return ScanCase("relu", "reset", FOUR, N, side, side, D)


def _norm(N: int, C: int, side: int, channels_last: bool = False) -> LrnCase:
    """AlexNet's norm1 (96 channels) or norm2 (256)."""
    return LrnCase(False, (N, C, side, side), 5, 1e-4, 0.75, 1.0, channels_last)


#: The blobs of C-RNN for ILSVRC: AlexNet's convolutions, the recurrent layer, the fully connected ones.
CRNN_BLOBS = [
    *((96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)),
    *((96,), (256,), (384,), (384,), (256,)),
    *((4, 256, 256), (4, 256), (4, 256, 256)),
    *((4096, 9216), (4096,), (4096, 4096), (4096,), (1000, 4096), (1000,)),
]
RATE = 2.0**-6  # a power of two: torch.optim.SGD's velocity times it is Caffe's without rounding

BOTH, CPU, GPU = ("cpu", "cuda"), ("cpu",), ("cuda",)
SHAPES = [
    Shape("crnn-b32", _crnn(32), BOTH),
    Shape("crnn-b256", _crnn(256), BOTH),
    Shape("crnn-b32-full", _crnn(32)._replace(line_break="carry"), BOTH),  # full BPTT: one call of cuDNN
    Shape("lrnn-b8-32x32-d64", _rows(8, 32, 64), CPU),
    Shape("lrnn-b8-32x32-d128", _rows(8, 32, 128), CPU),
    Shape("lrnn-b8-32x32-d256", _rows(8, 32, 256), CPU),
    Shape("rows-b2-24x24-d1024", _rows(2, 24, 1024), CPU),
    Shape("lrnn-b128-32x32-d64", _rows(128, 32, 64), GPU),
    Shape("lrnn-b128-32x32-d128", _rows(128, 32, 128), GPU),
    Shape("lrnn-b128-32x32-d256", _rows(128, 32, 256), GPU),
    Shape("lrnn-b128-16x16-d256", _rows(128, 16, 256), GPU),
    Shape("lrnn-b128-8x8-d256", _rows(128, 8, 256), GPU),
    Shape("seg-b2-24x24-d1024", _seg(2, 24, 1024), CPU),
    Shape("seg-b4-12x12-d1024", _seg(4, 12, 1024), GPU),
    Shape("seg-b10-12x12-d1024", _seg(10, 12, 1024), GPU),
    Shape("seg-b10-24x24-d1024", _seg(10, 24, 1024), GPU),
    Shape("seg-b10-48x48-d1024", _seg(10, 48, 1024), GPU),
    Shape("seg-b4-24x24-d2048", _seg(4, 24, 2048), GPU),
    Shape("seg-b10-48x48-d2048", _seg(10, 48, 2048), GPU),
    # Where cuDNN is strongest: one direction, one sequence, fp16, 8 samples (its PERSIST_STATIC).
    Shape("sequence-b8-t64-d512", ScanCase("relu", "carry", ("right",), 8, 1, 64, 512), BOTH),
    Shape("sequence-b64-t64-d1024", ScanCase("relu", "carry", ("right",), 64, 1, 64, 1024), GPU),
    Shape("lrnn-ln-b8-32x32-d64", _rows(8, 32, 64, "ln_relu"), CPU),
    Shape("lrnn-gru-b8-32x32-d64", _rows(8, 32, 64, "gru"), CPU),
    Shape("lrnn-lstm-b8-32x32-d64", _rows(8, 32, 64, "lstm"), CPU),
    Shape("lrnn-half-gru-b8-32x32-d64", _rows(8, 32, 64, "half_gru"), CPU),
    Shape("lrnn-ln-b128-32x32-d64", _rows(128, 32, 64, "ln_relu"), GPU),
    Shape("lrnn-gru-b128-32x32-d64", _rows(128, 32, 64, "gru"), GPU),
    Shape("lrnn-lstm-b128-32x32-d64", _rows(128, 32, 64, "lstm"), GPU),
    Shape("lrnn-half-gru-b128-32x32-d64", _rows(128, 32, 64, "half_gru"), GPU),
    Shape("hlstm-b32-d128", ScanCase("lstm", "carry", FOUR, 32, 6, 6, 128), BOTH),
    Shape("srnn-half-gru-b64-d512", ScanCase("half_gru", "carry", ("right",), 64, 1, 3, 512), BOTH),
    Shape("norm1-b16", _norm(16, 96, 55), CPU),
    Shape("norm2-b16", _norm(16, 256, 27), CPU),
    Shape("norm1-b256", _norm(256, 96, 55), GPU),
    Shape("norm2-b256", _norm(256, 256, 27), GPU),
    Shape("norm1-b256-last", _norm(256, 96, 55, True), GPU),
    Shape("norm2-b256-last", _norm(256, 256, 27, True), GPU),
    *(Shape(f"fc6-b{N}", InnerProductCase(N, 4096, 9216), CPU) for N in (10, 64)),
    Shape("map-b8-32x32-d128", TransposedCase(8, 128, 32 * 32), CPU),
    Shape("sgd-crnn", UpdateCase("SGD", "L2", 5e-4, 1.0, RATE, tuple(CRNN_BLOBS)), BOTH),
]

#: name -> torch dtype. tf32 is float32 whose products may use TF32; fp32 forbids it, for every peer alike.
DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
}
#: Bits kept of a product's operands, as a relative error.
EPS = {"bf16": 2**-8, "fp16": 2**-11, "tf32": 2**-11, "fp32": 2**-24}
OPS = ("scan", "spatial_rnn", "lrn", "inner_product", "transposed", "update")


def ops_of(case: Case) -> tuple[str, ...]:
    """The ops that a case is a case of."""
    single = {LrnCase: "lrn", InnerProductCase: "inner_product", TransposedCase: "transposed"}
    return OPS[:2] if isinstance(case, ScanCase) else (single.get(type(case), "update"),)


def set_tf32(dtype: str) -> None:
    """The same rule for matrix products and for cuDNN, whose defaults differ."""
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = dtype == "tf32"


def select(device: str, pattern: str = "") -> list[Shape]:
    """The shapes of a device whose name has `pattern` in it; any shape that is named exactly.

    Raises:
        ValueError: nothing has.
    """
    found = [s for s in SHAPES if s.name == pattern] or [
        s for s in SHAPES if device in s.on and pattern in s.name
    ]
    if not found:
        names = ", ".join(s.name for s in SHAPES if device in s.on)
        raise ValueError(f"no shape for {device} has {pattern!r} in its name; there are {names}")
    return found


def inputs(case: Case, op: str, dtype: str, device: str) -> tuple[dict[str, Tensor], Tensor]:
    """Random tensors that require grad, and the gradient of the op's output.

    scan:        z [P, N, K, G*D], w_hh [K, G*D, D], cell_params [K, c, D] where the cell has any.
    spatial_rnn: x [N, D, H, W] channels_last, w_ih [K, G*D, D], bias [K, G*D], w_hh,
                 gain [K, D] where the cell has it; combined by the sum.
    lrn:         x [N, C, H, W], in the case's order of memory.
    inner_product: x [N, K], weight [outputs, K].
    transposed:  x [N, A, B].

    W_hh is contractive: the states of a long chain neither explode nor die.
    """
    rng = torch.Generator(device).manual_seed(1)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=rng, device=device) * scale).to(DTYPES[dtype])

    if op == "lrn":
        order = torch.channels_last if case.channels_last else torch.contiguous_format
        x, gradient = (normal(*case.shape).contiguous(memory_format=order) for _ in range(2))
        return {"x": x.requires_grad_()}, gradient
    if op == "inner_product":
        found = {"x": normal(case.N, case.K), "weight": normal(case.outputs, case.K, scale=case.K**-0.5)}
        return {name: t.requires_grad_() for name, t in found.items()}, normal(case.N, case.outputs)
    if op == "transposed":
        return {"x": normal(case.N, case.A, case.B).requires_grad_()}, normal(case.N, case.B, case.A)
    cell, K, D, P = CELLS[case.cell], len(case.directions), case.D, case.H * case.W
    w_hh = normal(K, cell.gates * D, D, scale=0.7 / D**0.5)
    if op == "spatial_rnn":
        x = normal(case.N, D, case.H, case.W).contiguous(memory_format=torch.channels_last)
        found = {"x": x, "w_ih": normal(K, cell.gates * D, D, scale=D**-0.5)}
        found |= {"bias": normal(K, cell.gates * D), "w_hh": w_hh}
        if cell.params:
            found["gain"] = normal(K, D, scale=0.3) + 1
        gradient = normal(case.N, D, case.H, case.W).contiguous(memory_format=torch.channels_last)
    else:
        found = {"z": normal(P, case.N, K, cell.gates * D), "w_hh": w_hh}
        if cell.params:
            found["cell_params"] = normal(K, cell.params, D, scale=0.3) + 1
        gradient = normal(P, case.N, K, D)
    return {name: t.requires_grad_() for name, t in found.items()}, gradient
