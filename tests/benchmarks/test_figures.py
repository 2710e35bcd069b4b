"""benchmarks/figures.py: the README's figures are those of the newest results."""

import json

from benchmarks import figures, machine
from crnn.testing import ROOT


def result(device, day, rows):
    setup = {"device": device, "day": day, "machine": "M", "threads": 2, "torch": "2", "revision": "abc"}
    return {"setup": setup, "before": {"load": 0.1}, "rows": rows}


def row(name, op, mode, dtype, **ms):
    times = {n.replace("_", " "): {"wall": {"ms": t}, "device": {"ms": t}} for n, t in ms.items()}
    times["crnn"]["errors"] = {"out": 3e-7}
    floor = {"ms": 1.0, "limit": "flop", "bytes_ms": 0.5}
    fields = {"name": name, "op": op, "mode": mode, "dtype": dtype, "naive_errors": {"out": 2e-7}}
    return {**fields, "floor": floor, "contestants": times}


def test_the_readme_holds_what_the_newest_results_hold():
    """If not: python benchmarks/figures.py"""
    text = (ROOT / "README.md").read_text()
    assert figures.placed(text, figures.block(machine.RESULTS)) == text


def test_without_results_nothing_is_claimed(tmp_path):
    lines = [line for line in figures.block(tmp_path).splitlines() if line.startswith("|")]
    lines = [line for line in lines if not line.startswith(("| bar", "| records", "|---"))]
    assert len(lines) > 30 and all(line.endswith("| not yet measured |") for line in lines)


def test_a_cpu_row_stands_beside_its_fastest_peer(tmp_path):
    old = result("cpu", "2026-01-01", [])
    row_ = row("crnn-b32", "scan", "forward+backward", "fp32", crnn=2.0, autograd_loop=9.0, bmm_loop=5.0)
    for name, data in (("ops_a", old), ("ops_b", result("cpu", "2026-01-02", [row_]))):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    assert "| crnn-b32 | scan | 2.00 | bmm loop | 5.00 | 2.50× | 50% (flop) |" in figures.block(tmp_path)


def test_the_bars_of_the_cpu_read_ops_whole_nets_and_the_real_caffe(tmp_path):
    ops = [
        row("crnn-b32", "scan", "forward+backward", "fp32", crnn=2.0, autograd_loop=9.0, bmm_loop=5.0),
        row(
            "lrnn-gru-b8-32x32-d64",
            "scan",
            "forward+backward",
            "fp32",
            crnn=2.0,
            autograd_loop=9.0,
            bmm_loop=5.0,
        ),
        row("sgd-crnn", "update", "update", "fp32", crnn=1.25),
    ]
    nets = [
        {"net": net, "mode": "forward+backward", "contestants": {"crnn": {"wall": {"ms": ms}}}}
        for net, ms in (("alexnet", 110.0), ("alexnet-no-lrn", 100.0), ("crnn", 115.5))
    ]
    times = {"crnn": {"wall": {"ms": 4.0}}, "real Caffe": {"wall": {"ms": 10.0}}}
    beside = [{"name": "alexnet-b64", "contestants": times}, {"name": "alexnet-b10", "na": "wrong"}]
    for kind, rows in (("ops", ops), ("train", nets), ("caffe", beside)):
        data = result("cpu", "2026-01-02", rows)
        data["setup"] |= {"autocast": "none", "batch": 64}
        (tmp_path / f"{kind}_a.json").write_text(json.dumps(data))
    text = figures.block(tmp_path)
    for line in (
        "forward + backward ≥ 4× the unbind loop | 9.0× | 4.5× |",
        "| ≥ 1.9× the bmm loop | 5.0× | 2.5× |",
        "| gru, rows, D 64: forward + backward ≥ 2× the faster loop | 5.0× | 2.5× |",
        "| update of 61 M parameters: ≤ 1.3× the bytes' floor | 1.00× | 1.25× |",
        "| AlexNet at batch 64: ≤ 1.15× the same net without LRN |  | 1.10× |",
        "| C-RNN: ≤ 1.05× AlexNet |  | 1.05× |",
        "| AlexNet at batch 64: ≥ 2× the real Caffe |  | 2.5× |",
        "| AlexNet at batch 10: ≥ 1.7× the real Caffe |  | not yet measured |",
    ):
        assert line in text


def test_a_bar_reads_its_row(tmp_path):
    rows = [
        row("crnn-b256", "scan", "training forward", "bf16", crnn=0.018, bmm_loop=0.5),
        row("crnn-b256", "scan", "forward+backward", "bf16", crnn=0.05, autograd_loop=3.0, bmm_loop=0.6),
    ]
    (tmp_path / "ops_a.json").write_text(json.dumps(result("cuda", "2026-01-02", rows)))
    text = figures.block(tmp_path)
    assert "| C-RNN 256×6×6, D 256: forward ≤ 20 µs | 18.0 µs |" in text
    assert "| ≥ 50× the eager loop, forward + backward, wall time | 60.0× |" in text
    assert "| ≥ 10× the bmm loop in a CUDA graph | 12.0× |" in text
    assert "| error ≤ 2× that of torch in the same dtype | 1.50× |" in text
    assert "| C-RNN 32×6×6: forward ≤ 16 µs | not yet measured |" in text


def test_the_data_path_stands_beside_its_peers(tmp_path):
    def row(kind, threads, **ms):
        times = {name: {"wall": {"ms": t}, "cpu_ms": t / 2} for name, t in ms.items()}
        return {"name": kind, "threads": threads, "images": 1000, "contestants": times}

    names = ("crnn, bytes", "crnn, float32", "real Caffe, float32", "bare decoder", "DataLoader, 0 workers")
    raw = row("raw", 1, **dict(zip(names[:3], (100.0, 200.0, 500.0), strict=True)))
    jpeg = row("jpeg", 1, **dict(zip(names, (1000.0, 1100.0, 2200.0, 950.0, 1300.0), strict=True)))
    wide = row("jpeg", 2, **{"crnn, bytes": 500.0, "bare decoder": 480.0, "DataLoader, 2 workers": 600.0})
    found = result("cpu", "2026-01-01", [raw, jpeg, wide])
    found["setup"] |= {"cores": 2, "jpeg_bytes": 31658}
    (tmp_path / "data_a.json").write_text(json.dumps(found))
    text = figures.block(tmp_path)
    for line in (
        "; 2 cores of M, JPEGs of 32 KB, revision abc, load up to 0.1:",
        "| raw, as bytes: ≥ 15,000 images/s per core | 20,000 |",
        "| raw, float32, 1 thread, beside the real Caffe | 2.5× |",
        "| 1 thread: ≥ 90 % of the bare decoder | 95% |",
        "| all cores: ≥ 90 % of the bare decoder | 96% |",
        "| all cores, beside its 2 workers | 1.2× |",
    ):
        assert line in text
