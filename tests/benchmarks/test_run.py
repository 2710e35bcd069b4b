"""benchmarks/run.py as a program and its parts: turns, rows, files, tables, another commit."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import base, cases, machine, peers, run, table, timing
from benchmarks.timing import interleaved
from crnn.__main__ import main as crnn
from crnn.ops import backends
from crnn.testing import FOUR, ROOT, InnerProductCase, LrnCase, ScanCase, UpdateCase

TINY = cases.Shape("tiny", ScanCase("relu", "carry_value", FOUR, 2, 3, 3, 8), ("cpu",))
GRU = cases.Shape("tiny-gru", ScanCase("gru", "reset", ("right", "left"), 2, 3, 3, 8), ("cpu",))
compiled = pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """run(*arguments) on tiny shapes; gives the result's JSON."""
    monkeypatch.setattr(cases, "SHAPES", [TINY, GRU])

    def go(*arguments):
        assert run.main(["--device", "cpu", "--quick", "--out", str(tmp_path), *arguments]) == 0
        newest = max(tmp_path.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        return json.loads(newest.read_text())

    return go


def test_contestants_take_turns():
    order = []
    timers = [lambda n=n: order.append(n) or float(n) for n in (1, 2)]
    first, second = interleaved(timers, runs=3, warm_up=1)
    assert order == [1, 2] * 4
    assert first == {"ms": 1.0, "p20": 1.0, "p80": 1.0} and second["ms"] == 2.0


def test_warm_up_runs_do_not_count():
    times = iter([100.0, 100.0, 1.0, 2.0, 3.0])
    assert interleaved([lambda: next(times)], runs=3, warm_up=2)[0]["ms"] == 2.0


def test_as_many_runs_as_the_seconds_allow_but_five():
    quick, slow = SimpleNamespace(runs=20, seconds=1.0), SimpleNamespace(runs=20, seconds=1e-9)
    assert run.take_turns({"a": lambda: 1.0}, quick)["a"]["runs"] == 20
    assert run.take_turns({"a": lambda: 1.0}, slow)["a"]["runs"] == 5
    assert run.take_turns({}, quick) == {}


@compiled
def test_a_result_has_all_that_makes_it_believable(tiny):
    result = tiny("--mode", "inference", "forward+backward")
    assert result["schema"] == run.SCHEMA
    assert {"machine", "day", "revision", "torch", "crnn", "threads"} <= result["setup"].keys()
    assert "load" in result["before"] and "load" in result["after"]
    assert result["rates"]["fp32"].keys() == {"flop", "bytes", "step"}
    row = result["rows"][0]
    assert {"name", "op", "case", "dtype", "mode", "floor", "naive_errors", "contestants"} == row.keys()
    assert row["floor"]["limit"] in ("flop", "bytes", "chain")
    for entry in row["contestants"].values():
        assert entry["wall"].keys() == {"ms", "p20", "p80", "runs"}
        assert entry["errors"].keys() == {"out", "dz", "dw_hh"}
        assert entry["first_call_ms"] > 0 and entry["peak_bytes"] > 0


@compiled
def test_every_row_keeps_every_contestant(tiny):
    """What cannot compute a case stays in its row with the reason."""
    rows = {(row["name"], row["op"]): row for row in tiny()["rows"]}
    assert set(rows) == {(s.name, op) for s in (TINY, GRU) for op in cases.OPS[:2]}
    assert "resets after the product" in rows["tiny-gru", "spatial_rnn"]["contestants"]["nn.RNN"]["na"]
    assert "wall" in rows["tiny", "spatial_rnn"]["contestants"]["nn.RNN"]


@compiled
def test_a_wrong_op_is_not_timed(tiny, monkeypatch):
    monkeypatch.setattr(peers, "ours", lambda case, device, variant="": lambda z, w, p=None: z[..., :8] * 0.5)
    entry = tiny("--filter", "tiny", "--op", "scan")["rows"][0]["contestants"]["crnn"]
    assert entry["na"].startswith("wrong: out is off by")
    assert "wall" not in entry


@compiled
def test_a_dtype_without_a_kernel_is_a_reason(tiny):
    row = tiny("--dtype", "fp16", "--filter", "tiny-gru", "--op", "scan")["rows"][0]
    assert "na" in row["contestants"]["crnn"] or "wall" in row["contestants"]["crnn"]
    assert row["dtype"] == "fp16"


@compiled
def test_each_kernel_by_name(tiny):
    contestants = tiny("--variants", "--op", "scan", "--filter", "tiny-gru")["rows"][0]["contestants"]
    assert {f"crnn {name}" for name in peers.variants("cpu")} <= contestants.keys()


@compiled
def test_what_the_time_did_not_reach_is_named(tiny, capsys):
    result = tiny("--budget", "0")
    assert result["rows"] == []
    assert result["left_out"][0] == "tiny scan fp32"
    assert "not reached in the time given: tiny scan fp32" in capsys.readouterr().out


@compiled
def test_results_are_never_overwritten(tiny, tmp_path):
    for _ in range(3):
        tiny("--filter", "tiny-gru", "--op", "scan")
    setup = machine.setup("cpu")
    stem = f"ops_{machine.slug(setup['machine'])}_{setup['day']}_{setup['revision']}"
    assert {p.stem for p in tmp_path.iterdir()} == {stem, f"{stem}_2", f"{stem}_3"}


@compiled
def test_compares_with_another_commit(tiny, monkeypatch):
    monkeypatch.setenv("CRNN_BUILD", "none")  # the other tree runs on the reference: no minute of compiling
    result = tiny("--base", "HEAD", "--filter", "tiny-gru")
    row = result["rows"][0]
    assert result["base"] == "HEAD"
    assert row["contestants"].keys() == {"crnn", "base"}
    assert all(entry["wall"]["ms"] > 0 for entry in row["contestants"].values())
    trees = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "crnn-base-" not in trees.stdout


def test_an_unknown_base_is_one_sentence():
    with (
        pytest.raises(ValueError, match="--base no-such-commit: no such commit"),
        base.checked_out("no-such-commit"),
    ):
        pass


@compiled
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_lrn_and_update_beside_torchs_own(tiny, monkeypatch, dtype):
    norm = cases.Shape("tiny-norm", LrnCase(False, (2, 6, 3, 3), channels_last=True), ("cpu",))
    sgd = cases.Shape("tiny-sgd", UpdateCase("SGD", "L2", 5e-4, 1.0, cases.RATE, ((4, 3), (5,))), ("cpu",))
    monkeypatch.setattr(cases, "SHAPES", [norm, sgd])
    lrn, update = tiny("--dtype", dtype)["rows"]
    assert (lrn["op"], lrn["mode"]) == ("lrn", "forward+backward")
    assert lrn["contestants"].keys() == {"crnn", "F.local_response_norm"}
    assert (update["op"], update["mode"]) == ("update", "update")
    assert update["contestants"].keys() == {"crnn", "SGD loop", "SGD foreach", "SGD fused"}
    for entry in (*lrn["contestants"].values(), *update["contestants"].values()):
        assert entry["wall"]["ms"] > 0
    assert lrn["floor"]["limit"] == update["floor"]["limit"] == "bytes"


@compiled
def test_inner_products_beside_torchs_own(tiny, monkeypatch):
    shape = cases.Shape("tiny-fc", InnerProductCase(3, 2048, 512), ("cpu",))
    monkeypatch.setattr(cases, "SHAPES", [shape])
    (row,) = tiny()["rows"]
    assert (row["op"], row["mode"]) == ("inner_product", "forward+backward")
    assert row["contestants"].keys() == {"crnn", "F.linear"}
    assert all(entry["wall"]["ms"] > 0 for entry in row["contestants"].values())


def example(**crnn):
    """A result with one row; ours took 2 ms, the loop 5, nn.RNN 1, and a fourth does not exist."""
    contestants = {
        "crnn": {"wall": {"ms": 2.0, "p20": 1.9, "p80": 2.2}, "peak_bytes": 3 << 20, "errors": {"out": 2e-7}},
        "autograd loop": {"wall": {"ms": 5.0, "p20": 4.0, "p80": 6.0}},
        "nn.RNN": {"wall": {"ms": 1.0, "p20": 1.0, "p80": 1.0}},
        "compiled loop": {"na": "torch.compile unrolls 99 steps"},
    }
    contestants["crnn"] |= crnn
    row = {"name": "tiny", "op": "scan", "dtype": "fp32", "mode": "inference", "contestants": contestants}
    return {"rows": [{**row, "floor": {"ms": 0.5, "limit": "bytes"}}]}


def test_a_row_in_the_table():
    """Times and spread, the peers' ratios, the share of the floor, memory, error; a star for the best."""
    lines = table.body(example()["rows"], "wall", table.Reasons())
    assert lines[1] == [
        "tiny", "fp32", "inference", "2.00 (1.90-2.20)", "5.00 2.50x", "1.00* 0.50x", "n/a (a)",
        "0.500 bytes", "25%", "3", "2e-07",
    ]  # fmt: skip


def test_a_peer_that_wins_keeps_its_row_and_gets_the_star():
    text = table.tables(example(), table.terminal)
    assert "1.00* 0.50x" in text and "2.00* " not in text


def test_the_reason_of_what_is_missing_stands_below():
    text = table.tables(example(), table.terminal)
    assert "\n(a) torch.compile unrolls 99 steps\n" in text


def test_markdown_has_a_column_for_each_contestant():
    head, rule, row = table.markdown(table.body(example()["rows"], "wall", table.Reasons())).split("\n")
    assert head.count("|") == rule.count("|") == row.count("|") == 12


def test_without_our_op_there_are_only_their_times():
    result = example()
    result["rows"][0]["contestants"]["crnn"] = {"na": "no kernel"}
    assert table.body(result["rows"], "wall", table.Reasons())[1][3:6] == [
        "n/a (a)",
        "5.00 (4.00-6.00)",
        "1.00* (1.00-1.00)",
    ]


def test_peak_memory_is_what_was_held_at_once():
    def two_halves():
        for _ in range(3):
            torch.ones(1 << 18)  # 1 MB, freed before the next

    assert timing.peak_bytes(two_halves, "cpu") == 1 << 20


def test_runs_as_a_program():
    words = [sys.executable, str(ROOT / "benchmarks" / "run.py")]
    listed = subprocess.run([*words, "--device", "cpu", "--list"], capture_output=True, text=True, check=True)
    assert "crnn-b256" in listed.stdout
    if not torch.cuda.is_available():
        asked = subprocess.run([*words, "--device", "cuda"], capture_output=True, text=True, check=False)
        assert asked.returncode == 1 and "sees no GPU here" in asked.stderr
    wrong = subprocess.run([*words, "--filter", "xyz"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "no shape for" in wrong.stderr and "Traceback" not in wrong.stderr


def test_crnn_bench_is_the_same_program(capsys):
    """For those who have no source tree; it knows the same shapes."""
    assert crnn(["bench", "--device", "cpu", "--list"]) == 0
    listed = capsys.readouterr().out
    assert run.main(["--device", "cpu", "--list"]) == 0
    assert listed == capsys.readouterr().out
