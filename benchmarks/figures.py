"""What the README says of speed, from the newest committed results: python benchmarks/figures.py rewrites it.

A figure that no result holds reads "not yet measured".
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
from . import machine
from .cases import ROOT
from .table import markdown, number

NONE = "not yet measured"
BEGIN, END = "<!-- benchmarks/figures.py -->\n", "<!-- end -->\n"
CPU_ROWS = (
    "crnn-b32",
    "lrnn-b8-32x32-d64",
    "lrnn-b8-32x32-d256",
    "seg-b2-24x24-d1024",
    "norm1-b16",
    "fc6-b10",
    "sgd-crnn",
)


def newest(kind: str, device: str, folder: Path) -> list[dict]:
    """The results of a kind on a device, those of the newest day and machine."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}_*.json"))]
    found = [r for r in found if r["setup"]["device"] == device]
    last = max((r["setup"]["day"] for r in found), default=None)
    return [r for r in found if r["setup"]["day"] == last]


def cpu_table(results: Sequence[dict]) -> str:
    """Forward and backward of some shapes, each beside its fastest peer."""
    if not results:
        return f"CPU: {NONE}.\n"
    result = results[-1]
    same = [r for r in results if r["setup"]["revision"] == result["setup"]["revision"]]
    found = [row for r in same for row in r["rows"]]
    rows = [r for r in found if r["mode"] in ("forward+backward", "update") and r["dtype"] == "fp32"]
    lines = [["shape", "op", "crnn ms", "fastest peer", "its ms", "faster", "of the floor"]]
    for row in rows:
        times = {n: e["wall"]["ms"] for n, e in row["contestants"].items() if "wall" in e}
        peers = {n: ms for n, ms in times.items() if not n.startswith("crnn")}
        if row["name"] not in CPU_ROWS or "crnn" not in times or not peers:
            continue
        mine, peer = times["crnn"], min(peers, key=peers.get)
        share = f"{row['floor']['ms'] / mine:.0%} ({row['floor']['limit']})"
        faster = f"{peers[peer] / mine:.2f}×"
        lines.append([row["name"], row["op"], number(mine), peer, number(peers[peer]), faster, share])
    s, load = result["setup"], max(r["before"]["load"] for r in same)
    where = f"{s['machine']}, {s['threads']} threads, torch {s['torch']}, revision {s['revision']}"
    head = f"Forward and backward (update: one step), fp32, medians; {where}, load up to {load}:"
    return f"{head}\n\n{markdown(lines)}\n"


def time_of(row: dict, who: str, clock: str = "device") -> float:
    return row["contestants"][who][clock]["ms"]


def micro(row):
    return f"{time_of(row, 'crnn') * 1e3:.1f} µs"


def against(who: str, clock: str) -> Callable[[dict], str]:
    return lambda row: f"{time_of(row, who, clock) / time_of(row, 'crnn', clock):.1f}×"


def over_bytes(row):
    return f"{time_of(row, 'crnn') / row['floor']['bytes_ms']:.2f}×"


FORWARD, BOTH, LAYER = "training forward", "forward+backward", "crnn-layer-b32"
SEG = "seg-b10-48x48-d1024"
#: bar; shape, op and mode of its row (bf16); what to read from that row.
BARS = [
    ("C-RNN 256×6×6, D 256: forward ≤ 20 µs", "crnn-b256", "scan", FORWARD, micro),
    ("forward + backward ≤ 60 µs", "crnn-b256", "scan", BOTH, micro),
    ("≥ 50× the eager loop, forward + backward, wall time", "crnn-b256", "scan", BOTH,
     against("autograd loop", "wall")),
    ("≥ 10× the bmm loop in a CUDA graph", "crnn-b256", "scan", BOTH, against("bmm loop", "device")),
    ("C-RNN 32×6×6: forward ≤ 16 µs", "crnn-b32", "scan", FORWARD, micro),
    *(
        bar
        for d in (64, 128, 256)
        for bar in (
            (f"L-RNN 128×32×32, D {d}: forward ≤ 1.3× the bytes' floor", f"lrnn-b128-32x32-d{d}", "scan",
             FORWARD, over_bytes),
            ("≥ 1.3× cuDNN, forward + backward", f"lrnn-b128-32x32-d{d}", "spatial_rnn", BOTH,
             against("nn.RNN", "device")),
        )
    ),
    ("Segmentation 10×48×48, D 1024: ≥ 2× the eager loop, wall time", SEG, "scan", BOTH,
     against("autograd loop", "wall")),
    ("≥ 1× cuDNN, forward + backward", SEG, "spatial_rnn", BOTH, against("nn.RNN", "device")),
]  # fmt: skip


def loops(row):
    times = [time_of(row, who, "wall") for who in ("autograd loop", "bmm loop")]
    return f"{min(times) / time_of(row, 'crnn', 'wall'):.1f}×"


def gemm_rate(row):
    return f"{row['floor']['flop_ms'] / time_of(row, 'crnn', 'wall'):.0%}"


def over_floor(row):
    return f"{time_of(row, 'crnn', 'wall') / row['floor']['ms']:.2f}×"


#: The same for the CPU (fp32, wall time).
CPU_BARS = [
    *(
        bar
        for name, shape, unbind, bmm in (
            ("C-RNN 32×6×6, D 256", "crnn-b32", 4, 1.9),
            ("C-RNN 256×6×6, D 256", "crnn-b256", 2.7, 1.5),
            ("L-RNN rows 8×32×32, D 64", "lrnn-b8-32x32-d64", 5, 2.5),
        )
        for bar in (
            (f"{name}: scan, forward + backward ≥ {unbind}× the unbind loop", shape, "scan", BOTH,
             against("autograd loop", "wall")),
            (f"≥ {bmm}× the bmm loop", shape, "scan", BOTH, against("bmm loop", "wall")),
        )
    ),
    *(
        (f"rows, D {D}: forward with the projection ≥ {times}× nn.RNN", shape, "spatial_rnn", "inference",
         against("nn.RNN", "wall"))
        for D, times, shape in (
            (64, 3, "lrnn-b8-32x32-d64"),
            (128, 2.2, "lrnn-b8-32x32-d128"),
            (256, 1.8, "lrnn-b8-32x32-d256"),
            (1024, 1.3, "rows-b2-24x24-d1024"),
        )
    ),
    ("rows, D 256: forward ≥ 75 % of the matrix product's rate", "lrnn-b8-32x32-d256", "scan", "inference",
     gemm_rate),
    *(
        (f"{cell}, rows, D 64: forward + backward ≥ 2× the faster loop", f"lrnn-{name}-b8-32x32-d64", "scan",
         BOTH, loops)
        for cell, name in (("ln_relu", "ln"), ("gru", "gru"), ("lstm", "lstm"))
    ),
    ("update of 61 M parameters: ≤ 1.3× the bytes' floor", "sgd-crnn", "update", "update", over_floor),
]  # fmt: skip


def read(rows: Sequence[dict], dtype: str, shape: str, op: str, mode: str, figure: Callable) -> str:
    """The figure of a bar; a contestant without a time leaves it not measured."""
    wanted = (shape, op, mode, dtype)
    for row in rows:
        if (row["name"], row["op"], row["mode"], row["dtype"]) == wanted:
            try:
                return figure(row)
            except KeyError:  # the row says why
                return NONE
    return NONE


def at_the_floor(figure: Callable) -> Callable:
    """The same figure if crnn took no longer than the floor of its row."""

    def read(row: dict) -> str:
        entries = row["contestants"]
        return figure({**row, "contestants": {**entries, "crnn": {"wall": {"ms": row["floor"]["ms"]}}}})

    return read


def training(results: Sequence[dict]) -> list[list[str]]:
    """AlexNet beside plain torch, C-RNN beside AlexNet: a training step of 256 images in bf16."""
    ours, plain = {}, {}
    for result in results:
        if result["setup"]["autocast"] == "bf16":
            for row in result["rows"]:
                if row["mode"] == "training step" and "wall" in row["contestants"].get("crnn", {}):
                    ours[row["net"]] = time_of(row, "crnn", "wall")
                    plain[row["net"]] = time_of(row, "plain torch", "wall")
    faster = f"{plain['alexnet'] / ours['alexnet']:.2f}×" if "alexnet" in ours else NONE
    cost = f"{ours['crnn'] / ours['alexnet'] - 1:+.1%}" if len(ours) == 2 else NONE
    return [
        ["AlexNet training step, 256 images, bf16: ≥ 1.5× plain torch", faster],
        ["C-RNN training step: at most 3 % slower than AlexNet's", cost],
    ]


def worst_error(rows: Sequence[dict]) -> str:
    """Of all rows and results, our error over plain torch's in the same dtype."""
    ratios = [
        error / max(row["naive_errors"][name], 1e-30)
        for row in rows
        for name, error in row["contestants"].get("crnn", {}).get("errors", {}).items()
    ]
    return f"{max(ratios):.2f}×" if ratios else NONE


def gpu_table(ops: Sequence[dict], trained: Sequence[dict]) -> str:
    rows = [row for result in ops for row in result["rows"]]
    lines = [["bar (bf16; device time where no other is named)", "measured"]]
    lines += [[text, read(rows, "bf16", *where)] for text, *where in BARS]
    lines += [*training(trained), ["error ≤ 2× that of torch in the same dtype", worst_error(rows)]]
    on = f" on {ops[0]['setup']['machine']}" if ops else ""
    return f"The bars for one H200{on}:\n\n{markdown(lines)}\n"


def whole_nets(trained: Sequence[dict], beside_caffe: Sequence[dict]) -> list[list[str]]:
    """Forward and backward in float32: what LRN and the recurrent layer cost, and the real Caffe."""
    layer = "C-RNN's layer at batch 32, forward + backward"
    times, rows = {}, {row["name"]: row for result in beside_caffe for row in result["rows"]}
    for result in trained:
        if result["setup"]["autocast"] == "none" and result["setup"]["batch"] == 64:
            for row in result["rows"]:
                if row["mode"] == BOTH and "wall" in row["contestants"].get("crnn", {}):
                    times[row["net"]] = time_of(row, "crnn", "wall")

    def faster(name: str, change: Callable = lambda figure: figure) -> str:
        try:
            return change(against("real Caffe", "wall"))(rows[name])
        except KeyError:  # not run, or the row says why it has no times
            return NONE

    def ratio(net: str, other: str) -> str:
        return f"{times[net] / times[other]:.2f}×" if {net, other} <= times.keys() else NONE

    return [
        [f"{layer}: ≥ 6× the real Caffe's unrolled net", faster(LAYER, at_the_floor), faster(LAYER)],
        ["AlexNet at batch 64: ≤ 1.15× the same net without LRN", "", ratio("alexnet", "alexnet-no-lrn")],
        ["C-RNN: ≤ 1.05× AlexNet", "", ratio("crnn", "alexnet")],
        ["AlexNet at batch 64: ≥ 2× the real Caffe", "", faster("alexnet-b64")],
        ["AlexNet at batch 10: ≥ 1.7× the real Caffe", "", faster("alexnet-b10")],
    ]


def cpu_bars(ops: Sequence[dict], trained: Sequence[dict], beside_caffe: Sequence[dict]) -> str:
    rows = [row for result in ops for row in result["rows"]]
    lines = [["bar (2 threads, fp32, wall time)", "at the floor", "measured"]]
    for text, *where, figure in CPU_BARS:
        columns = [read(rows, "fp32", *where, f) for f in (at_the_floor(figure), figure)]
        lines.append([text, *columns])
    lines += whole_nets(trained, beside_caffe)
    on = f", here on {ops[0]['setup']['machine']}" if ops else ""
    floor = "*at the floor*: if crnn took no longer than its arithmetic or bytes alone"
    return f"The bars, set for 2 cores with AVX512{on}; {floor}:\n\n{markdown(lines)}\n"


def data_table(results: Sequence[dict]) -> str:
    """The data path: images a second of processor time, and beside the peers of the same run."""
    rows = {(r["name"], r["threads"]): r for result in results for r in result["rows"]}
    one = {kind: rows.get((kind, 1)) for kind in ("raw", "jpeg")}
    all_cores = rows.get(("jpeg", max((t for _, t in rows), default=1)))

    def per_core(kind: str, who: str) -> str:
        entry = one[kind] and one[kind]["contestants"].get(who, {})
        return f"{1e3 * one[kind]['images'] / entry['cpu_ms']:,.0f}" if entry and "wall" in entry else NONE

    def faster(row: dict | None, who: str, peer: str, form: str = "{:.1f}×") -> str:
        times = {n: e["wall"]["ms"] for n, e in (row["contestants"] if row else {}).items() if "wall" in e}
        return form.format(times[peer] / times[who]) if {who, peer} <= times.keys() else NONE

    bytes_, floats = "crnn, bytes", "crnn, float32"
    lines = [
        ["records of 256×256, crop 227, mirror (CPU)", "measured"],
        ["raw, as bytes: ≥ 15,000 images/s per core", per_core("raw", bytes_)],
        ["raw, as float32 less the mean, images/s per core", per_core("raw", floats)],
        ["raw, float32, 1 thread, beside the real Caffe", faster(one["raw"], floats, "real Caffe, float32")],
        ["JPEG, as bytes, images/s per core", per_core("jpeg", bytes_)],
        ["1 thread: ≥ 90 % of the bare decoder", faster(one["jpeg"], bytes_, "bare decoder", "{:.0%}")],
        ["all cores: ≥ 90 % of the bare decoder", faster(all_cores, bytes_, "bare decoder", "{:.0%}")],
        ["1 thread, beside torch's DataLoader", faster(one["jpeg"], bytes_, "DataLoader, 0 workers")],
        ["all cores, beside its 2 workers", faster(all_cores, bytes_, "DataLoader, 2 workers")],
        [
            "JPEG, float32, 1 thread, beside the real Caffe",
            faster(one["jpeg"], floats, "real Caffe, float32"),
        ],
    ]
    head = "The data path (`benchmarks/data_path.py`, [docs/data_path.md](docs/data_path.md))"
    if results:
        s, load = results[-1]["setup"], max(r["before"]["load"] for r in results)
        head += f"; {s['cores']} cores of {s['machine']}, JPEGs of {s['jpeg_bytes'] / 1e3:.0f} KB, "
        head += f"revision {s['revision']}, load up to {load}"
    return f"{head}:\n\n{markdown(lines)}\n"


def block(folder: Path) -> str:
    """The README's text between the markers."""
    cuda = [newest(kind, "cuda", folder) for kind in ("ops", "train")]
    cpu = [newest(kind, "cpu", folder) for kind in ("ops", "train", "caffe")]
    data = data_table(newest("data", "cpu", folder))
    return f"{BEGIN}\n{cpu_table(cpu[0])}\n{cpu_bars(*cpu)}\n{gpu_table(*cuda)}\n{data}\n{END}"


def placed(readme: str, text: str) -> str:
    """The README with the block in place of the old one."""
    head, rest = readme.split(BEGIN)
    return head + text + rest.split(END)[1]


def main() -> int:
    path = ROOT / "README.md"
    path.write_text(placed(path.read_text(), block(machine.RESULTS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
