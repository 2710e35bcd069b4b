"""Shared by tests and benchmarks: the table of op cases, the tolerances, the goldens.

A case is the shape of one scan; `inputs` makes its tensors. What the table holds, every backend is tested on
and can be timed on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from crnn.ops import plan
from crnn.ops.update_reference import RULES

ROOT = Path(__file__).resolve().parent.parent


def golden(path: str) -> Path:
    """A golden of the real Caffe, `tests/goldens/<path>`."""
    for folder in (ROOT / "tests" / "goldens", ROOT.parent / "shared" / "goldens"):
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(
        f"no golden {path!r} in {ROOT / 'tests' / 'goldens'}: run the tests from a checkout"
    )


class ScanCase(NamedTuple):
    """One scan: z [H*W, N, K, G*D] over an H x W map."""

    cell: str
    line_break: str
    directions: Sequence[str]
    N: int
    H: int
    W: int
    D: int
    with_initial: bool = False
    with_cont: bool = False

    def __str__(self):
        extra = "-initial" * self.with_initial + "-cont" * self.with_cont
        order = "".join(d[0] if d in FOUR else f"({d})" for d in self.directions)
        return f"{self.cell}-{self.line_break}-{order}-{self.N}x{self.H}x{self.W}x{self.D}{extra}"

    @property
    def plan(self):
        return plan(self.directions, self.H, self.W, self.line_break)

    def inputs(self, dtype=torch.float64, seed: int = 0, device="cpu") -> dict[str, Tensor | None]:
        """z, w_hh, initial, cont of the case; W_hh is contractive: long chains do not explode."""
        from crnn.ops.reference import CELLS

        rng = torch.Generator().manual_seed(seed)
        cell, P, K, D = CELLS[self.cell], self.H * self.W, len(self.directions), self.D

        def normal(*shape):
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        initial = normal(cell.states, self.N, K, D) if self.with_initial else None
        cont = (torch.rand(P, self.N, generator=rng) > 0.3).to(dtype) if self.with_cont else None
        tensors = {
            "z": normal(P, self.N, K, cell.gates * D).to(dtype),
            "w_hh": (normal(K, cell.gates * D, D) * 0.7 / max(D, 1) ** 0.5).to(dtype),
            "cell_params": (1 + 0.3 * normal(K, cell.params, D)).to(dtype) if cell.params else None,
            "initial": None if initial is None else initial.to(dtype),
            "cont": cont,
        }
        return {name: None if t is None else t.to(device) for name, t in tensors.items()}


class SpatialCase(NamedTuple):
    """A scan and the sum of its directions; with C channels of x, after their projection."""

    scan: ScanCase
    combine: str = "sum"
    C: int = 0
    shared: bool = False  # one W_ih and bias for all directions
    with_bias: bool = True

    def __str__(self):
        projected = f"-C{self.C}" + "-shared" * self.shared + "-nobias" * (not self.with_bias)
        return f"{self.scan}-{self.combine}{projected if self.C else ''}"

    def inputs(self, dtype=torch.float64, seed: int = 0, device="cpu") -> dict[str, Tensor | None]:
        """x (or z), w_ih, bias, w_hh, cell_params; x as a map in channels_last order has it."""
        made = self.scan.inputs(dtype, seed, device)
        found = {"x": made["z"], "w_ih": None, "bias": None, "w_hh": made["w_hh"]}
        found["cell_params"] = made["cell_params"]
        if self.C:
            rng = torch.Generator().manual_seed(seed + 1)
            (K, GD, _), rows = found["w_hh"].shape, (self.scan.N, self.scan.H * self.scan.W, self.C)
            K = 1 if self.shared else K

            def normal(*shape, scale=1.0):
                made = torch.randn(*shape, generator=rng, dtype=torch.float64) * scale
                return made.to(device, dtype)

            found["x"] = normal(*rows).transpose(0, 1)
            found["w_ih"] = normal(K, GD, self.C, scale=self.C**-0.5)
            found["bias"] = normal(K, GD) if self.with_bias else None
        return found


def spatial_scan_cases() -> list[SpatialCase]:
    """Every line break, the orders that a sum can have, one direction and eight; each way to combine."""
    rows, columns, eight = FOUR[:2], FOUR[2:], FOUR * 2
    orders = [
        ("carry_value", FOUR), ("carry", FOUR), ("reset", rows), ("reset", columns), ("carry", ("up",)),
        ("carry", eight), ("reset", ("right", "mirror_left")), ("reset", ("up", "mirror_up", "down")),
    ]  # fmt: skip
    table = [SpatialCase(ScanCase("relu", b, order, 3, 3, 2, 64)) for b, order in orders]
    table += [SpatialCase(ScanCase("relu", "carry", FOUR[:3], 2, 3, 2, 64), how) for how in ("sum", "mean")]
    table += [SpatialCase(ScanCase("relu", b, order, 3, 3, 2, 64), C=40) for b, order in orders]
    table += [SpatialCase(ScanCase("relu", "reset", FOUR, 3, 3, 2, 64), "concat", 40)]
    table += [
        SpatialCase(ScanCase("ln_relu", b, rows, 2, 2, 3, 128), "mean", 72, shared=True)
        for b, _ in orders[:3]
    ]
    table += [SpatialCase(ScanCase("relu", "carry", FOUR, 2, 2, 3, 64), C=64, with_bias=False)]
    return table


def device_of(backend: str) -> str:
    """The device whose tensors a backend takes; the reference takes any."""
    return "cuda" if backend == "cuda" else "cpu"


FOUR = ("right", "left", "down", "up")


def scan_cases() -> list[ScanCase]:
    """Every cell with every line break, then the odd shapes, orders and options."""
    from crnn.ops.reference import CELLS

    breaks = ("carry", "carry_value", "reset")
    table = [ScanCase(cell, b, FOUR, 2, 3, 4, 5) for cell in CELLS for b in breaks]
    table += [ScanCase(cell, b, FOUR, 2, 3, 2, 4, True, True) for cell in CELLS for b in breaks]
    odd = [
        (0, 2, 3, 4),
        (1, 1, 1, 1),
        (1, 1, 7, 3),
        (2, 5, 1, 3),
        (3, 2, 2, 7),
        (30, 2, 2, 33),
        (1, 3, 3, 200),
    ]
    table += [ScanCase("relu", b, FOUR, *shape) for b in breaks for shape in odd]
    table += [ScanCase("tanh", b, ("mirror_left", "mirror_up"), 2, 3, 4, 3) for b in breaks]
    table += [ScanCase("relu", "carry_value", ("up",), 2, 4, 3, 16, True)]
    return table


#: Relative Frobenius error allowed against the reference in float64: float32 rounds each of the some hundred
#: terms of a sum; float64 differs by the order of the sums.
SCAN_TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


class LrnCase(NamedTuple):
    """One local response normalisation of an [N, C, H, W] map."""

    within: bool
    shape: tuple[int, int, int, int]
    size: int = 5
    alpha: float = 0.5
    beta: float = 0.75
    k: float = 1.5
    channels_last: bool = False

    def __str__(self):
        region, last = "within" if self.within else "across", "-last" * self.channels_last
        return f"{region}-{'x'.join(map(str, self.shape))}-{self.size}-{self.beta:g}{last}"

    @property
    def numbers(self):
        """The op's arguments after x."""
        return self.size, self.alpha, self.beta, self.k, self.within

    def inputs(self, dtype=torch.float64, seed: int = 0, device="cpu") -> dict[str, Tensor]:
        """x, and a gradient dy of y, in the case's order of memory."""
        rng = torch.Generator().manual_seed(seed)
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        x, dy = torch.randn(2, *self.shape, generator=rng, dtype=torch.float64).to(device, dtype).unbind()
        return {"x": x.contiguous(memory_format=order), "dy": dy.contiguous(memory_format=order)}


def lrn_cases() -> list[LrnCase]:
    """Both regions, both orders; windows longer than the axis; shapes that do not divide the tiles."""
    shapes = [
        (2, 7, 5, 3),
        (1, 1, 1, 1),
        (0, 3, 2, 2),
        (3, 96, 13, 11),
        (1, 200, 9, 19),
        (2, 3, 1, 70),
        (2, 17, 66, 1),
    ]
    table = [LrnCase(w, s, channels_last=c) for w in (False, True) for s in shapes for c in (False, True)]
    table += [
        LrnCase(w, (2, 9, 7, 8), size, beta=beta, channels_last=c)
        for w in (False, True)
        for size, beta in ((1, 0.75), (3, 0.6), (15, 0.75))
        for c in (False, True)
    ]
    return table


#: As SCAN_TOLERANCE; the half types round x's neighbours nowhere and y once.
LRN_TOLERANCE = {torch.float64: 1e-13, torch.float32: 5e-7, torch.bfloat16: 4e-3, torch.float16: 5e-4}


class InnerProductCase(NamedTuple):
    """N rows of K values through a matrix [outputs, K]."""

    N: int
    outputs: int
    K: int

    def __str__(self):
        return f"{self.N}x{self.K}-{self.outputs}"

    def inputs(self, dtype=torch.float64, seed: int = 0, device="cpu") -> dict[str, Tensor]:
        """x [N, K], weight [outputs, K], and a gradient dy [N, outputs]."""
        rng = torch.Generator().manual_seed(seed)
        shapes = {"x": (self.N, self.K), "weight": (self.outputs, self.K), "dy": (self.N, self.outputs)}
        return {name: torch.randn(s, generator=rng).to(device, dtype) for name, s in shapes.items()}


def inner_product_cases() -> list[InnerProductCase]:
    """Shapes that divide no tile, chunk, panel or vector; some that do; empty ones."""
    shapes = [
        (1, 1, 1), (2, 3, 7), (3, 33, 15), (5, 7, 1025), (6, 48, 512), (7, 100, 1531), (12, 96, 2048),
        (13, 31, 1024), (64, 50, 3000), (65, 5, 33), (0, 5, 6), (4, 0, 6), (4, 5, 0),
    ]  # fmt: skip
    return [InnerProductCase(*shape) for shape in shapes]


class TransposedCase(NamedTuple):
    """N matrices [A, B]."""

    N: int
    A: int
    B: int

    def __str__(self):
        return f"{self.N}x{self.A}x{self.B}"


def transposed_cases() -> list[TransposedCase]:
    """Sides that are, and are not, multiples of the squares that are moved at once; empty ones."""
    sides = [(1, 1), (3, 5), (4, 4), (31, 33), (32, 32), (64, 96), (70, 3), (36, 256), (5, 4097), (129, 130)]
    cases = [TransposedCase(N, A, B) for N in (1, 3) for A, B in sides]
    return [*cases, TransposedCase(0, 4, 4), TransposedCase(2, 0, 4), TransposedCase(2, 4, 0)]


#: As SCAN_TOLERANCE; float32 sums some thousand terms.
INNER_PRODUCT_TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6}


class UpdateCase(NamedTuple):
    """Some updates of blobs of different shapes by one rule."""

    rule: str
    regularization: str = "L2"
    decay: float = 0.02
    scale: float = 0.5
    rate: float = 0.1
    shapes: Sequence[tuple[int, ...]] = ((3, 5, 2, 2), (), (0, 4), (70001,), (17,))

    def __str__(self):
        return f"{self.rule}-{self.regularization}-{self.decay:g}-{self.scale:g}-{len(self.shapes)}"

    @property
    def numbers(self):
        known = {"momentum": 0.9, "keep": 0.95, "beta1": 0.9, "beta2": 0.99, "delta": 1e-3}
        return [known[name] for name in RULES[self.rule].numbers]

    @property
    def options(self):
        """The op's arguments after history."""
        return self.rule, self.numbers, self.rate, self.decay, self.regularization, self.scale

    def inputs(self, dtype=torch.float64, seed: int = 0, device="cpu") -> tuple[list, list, list]:
        """blobs, gradients and histories, none of them negative where a rule takes their root."""
        rng = torch.Generator().manual_seed(seed)

        def tensors():
            return [torch.randn(s, generator=rng, dtype=torch.float64).to(device, dtype) for s in self.shapes]

        history = [tensors() for _ in range(RULES[self.rule].histories)]
        return tensors(), tensors(), [[t.abs() for t in h] for h in history]


def update_cases() -> list[UpdateCase]:
    """Every rule with each kind of weight decay and without; one blob."""
    table = [UpdateCase(rule, kind) for rule in RULES for kind in ("L2", "L1")]
    table += [UpdateCase(rule, decay=0.0, scale=1.0) for rule in RULES]
    return [*table, UpdateCase("SGD", shapes=((300, 300),))]


#: Relative error after one update; the half types round each blob and history once.
UPDATE_TOLERANCE = {torch.float64: 1e-14, torch.float32: 5e-7, torch.bfloat16: 4e-3, torch.float16: 5e-4}


def relative_error(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want|, Frobenius; the absolute error where want is zero."""
    got, want = got.detach().double(), want.detach().to(got.device).double()
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    error, scale = (got - want).norm(), want.norm()
    return float(error / scale if scale > 0 else error)


def assert_near(got: Tensor, want: Tensor, tolerance: float, what: str = "") -> None:
    error = relative_error(got, want)
    assert error <= tolerance, f"{what}: relative error {error:.2e}, allowed {tolerance:.0e}"
