"""Snapshots: exact resume with real data, files that are whole, and what is not a snapshot of this net."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.proto import pb
from crnn.solver.events import Note, Scored
from crnn.solver.solver import Solver
from crnn.testing import golden
from tests.solver import sequence
from tests.solver.snapshots import assert_equal_bits, bits, refuses, saved

ADAM = {"type": '"Adam"'}
SAVED = ("run_iter_2.caffemodel", "run_iter_2.resume.json", "run_iter_2.solverstate")


@pytest.mark.parametrize("seed, kind", [(1, None), (-1, None), (1, "HDF5")])
def test_resumed_equals_unbroken_to_the_bit(logged, seed, kind):
    """Weights, history, crops and mirrors, test scores: also with a seed that nobody chose, and in HDF5."""
    if kind:
        pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    fields = {"test_iter": 2, "test_interval": 2, "snapshot": 4, "max_iter": 8, "random_seed": seed}
    fields["snapshot_format"] = kind
    scores = [], []
    unbroken = Solver(logged(**fields), [scores[0].append])
    unbroken.solve()
    resumed = Solver(logged(**fields), [scores[1].append])
    resumed.restore(f"out/run_iter_4.solverstate{'.h5' if kind else ''}")
    resumed.solve()
    assert_equal_bits(resumed, unbroken)
    tested = [[(e.iter, e.outputs) for e in log if isinstance(e, Scored) and e.iter >= 4] for log in scores]
    assert tested[0] == tested[1] and len(tested[0]) == 3


def test_a_shuffled_list_and_a_carried_state_are_resumed(logged):
    fields = {**sequence.written(), "snapshot": 3, "max_iter": 6}
    unbroken = Solver(logged(**fields))
    unbroken.solve()
    resumed = Solver(logged(**fields))
    resumed.restore("out/run_iter_3.solverstate")
    resumed.solve()
    assert_equal_bits(resumed, unbroken)
    assert unbroken.net.layer("rnn").carried.abs().sum() > 0


def test_average_loss_is_resumed(logged):
    unbroken = Solver(logged(average_loss=4))
    unbroken.step(3)
    resumed = Solver(logged(average_loss=4))
    resumed.restore(unbroken.snapshot())
    assert resumed.smoothed_loss == unbroken.smoothed_loss


def test_files_and_messages(logged):
    solver = Solver(logged(**ADAM))
    solver.step(2)
    assert solver.snapshot() == "out/run_iter_2.solverstate"
    assert sorted(os.listdir("out")) == sorted(SAVED)
    state = pb.SolverState.FromString(Path("out/run_iter_2.solverstate").read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (2, "out/run_iter_2.caffemodel", 0)
    assert len(state.history) == 2 * len(solver.params)


def test_prefix_folder_is_made_and_probed_at_the_start(logged):
    Solver(logged(snapshot=2, snapshot_prefix='"a/b/c"'))
    assert os.listdir("a/b") == []
    Path("file").touch()
    with pytest.raises(
        OSError, match=r"cannot write snapshots to 'file/x'.*set snapshot_prefix to a writable"
    ):
        Solver(logged(snapshot=2, snapshot_prefix='"file/x"'))


def test_no_prefix(logged):
    solver = Solver(logged(snapshot_prefix=None) and Path("solver.prototxt").read_text())
    with pytest.raises(
        ValueError, match="need a snapshot_prefix; without snapshots say snapshot_after_train"
    ):
        solver.solve()


def test_a_moved_run_finds_its_caffemodel_beside_the_state(logged):
    solver = Solver(logged())
    solver.step(2)
    solver.snapshot()
    shutil.move("out", "elsewhere")
    moved = Solver(logged())
    moved.restore("elsewhere/run_iter_2.solverstate")
    assert_equal_bits(moved, solver)


def test_a_snapshot_without_resume_file_is_caffes(logged):
    solver = Solver(logged())
    solver.step(2)
    solver.snapshot()
    Path("out/run_iter_2.resume.json").unlink()
    notes = []
    other = Solver(logged(), [lambda event: notes.append(event.text) if isinstance(event, Note) else None])
    other.restore("out/run_iter_2.solverstate")
    assert_equal_bits(other, solver)
    assert other.net.layer("data").loader.position == 0
    assert notes[-1].endswith("run_iter_2.solverstate has no .resume.json beside it: the data begin anew")


def edit_net(old, new):
    path = Path("logged_net.prototxt")
    path.write_text(path.read_text().replace(old, new))


def test_another_number_of_outputs(logged):
    state = saved(logged)
    edit_net("num_output: 3", "num_output: 5")
    refuses(
        logged,
        state,
        r"run_iter_2.solverstate is of another net: the history of fc\[0\] is \[3, 1568\], here",
    )


def test_another_layer(logged):
    state = saved(logged)
    edit_net('name: "fc"', 'name: "fc2"')
    refuses(logged, state, "run_iter_2.caffemodel is of another net: layer 'fc' is only in the file")


def test_another_solver_type(logged):
    refuses(logged, saved(logged), "has 4 history blobs, Adam on this net has 8", **ADAM)


def test_weights_given_as_a_snapshot(logged):
    saved(logged)
    refuses(logged, "out/run_iter_2.caffemodel", "run_iter_2.caffemodel holds weights only; resume from")
    shutil.copy("out/run_iter_2.caffemodel", "out/renamed.solverstate")
    refuses(logged, "out/renamed.solverstate", "renamed.solverstate")


def test_hdf5_files_and_lines(logged):
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    lines = []
    solver = Solver(logged(snapshot_format="HDF5"), [lambda event: lines.append(getattr(event, "text", ""))])
    solver.step(2)
    assert solver.snapshot() == "out/run_iter_2.solverstate.h5"
    assert lines[-2:] == [
        "Snapshotting to HDF5 file out/run_iter_2.caffemodel.h5",
        "Snapshotting solver state to HDF5 file out/run_iter_2.solverstate.h5",
    ]
    assert len(os.listdir("out")) == 3
    refuses(logged, "out/run_iter_2.caffemodel.h5", "holds weights only")
    edit_net('name: "fc"', 'name: "fc2"')
    refuses(logged, solver.last_snapshot, "caffemodel.h5 is of another net: layer 'fc' is only in the file")


@pytest.mark.parametrize("name", ["adam", "shared"])
def test_caffes_hdf5_snapshot(name, tmp_path, monkeypatch):
    """tests/parity/SNAPSHOTS.md has the training that follows."""
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    shutil.copytree(golden(f"hdf5/{name}"), tmp_path / "caffe")
    monkeypatch.chdir(tmp_path / "caffe")
    solver = Solver("solver.prototxt")
    solver.restore("snap_iter_5.solverstate.h5")
    assert solver.iter == 5
    wanted = np.load("weights.npz")
    for param in solver.net.params:
        assert np.array_equal(param.parameter.detach().numpy(), wanted[f"{param.layer}/{param.index}"])
    assert any(h.abs().sum() > 0 for param in solver.params for h in param.history)


def test_missing_files(logged):
    refuses(logged, "out/nothing.solverstate", "nothing.solverstate", OSError)
    state = saved(logged)
    Path("out/run_iter_2.caffemodel").unlink()
    refuses(
        logged, state, "continues out/run_iter_2.caffemodel, which is neither there nor beside it", OSError
    )


@pytest.mark.parametrize("name", ["run_iter_2.caffemodel", "run_iter_2.solverstate"])
def test_a_flipped_bit_is_found(logged, name):
    state, path = saved(logged), Path("out") / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refuses(logged, state, f"{name} is damaged or of another run")


def test_a_truncated_state(logged):
    state = Path(saved(logged))
    state.write_bytes(state.read_bytes()[:-100])
    refuses(logged, str(state), "run_iter_2.solverstate")


def test_non_finite_loss_stops_before_the_update(logged):
    solver = Solver(logged())
    solver.step(2)
    state = solver.snapshot()
    before = bits(solver)
    data = {"data": torch.full((4, 3, 32, 32), float("nan")), "label": torch.zeros(4)}
    with pytest.raises(
        FloatingPointError, match=f"loss is nan at iteration 2.*last good snapshot is {state}"
    ):
        solver.step(1, data)
    assert all(map(torch.equal, bits(solver), before))


def test_non_finite_weights_are_not_written(logged):
    state = saved(logged)
    solver = Solver(logged())
    solver.restore(state)
    files = {name: (Path("out") / name).read_bytes() for name in SAVED}
    with torch.no_grad():
        solver.net.layer("fc").blobs[1][0] = float("inf")
    with pytest.raises(
        FloatingPointError, match=r"fc\[1\] is not finite.*no snapshot was written.*run_iter_2"
    ):
        solver.snapshot()
    assert files == {name: (Path("out") / name).read_bytes() for name in os.listdir("out")}


def test_fine_tuning_copies_by_name_and_tells(logged):
    saved(logged)
    edit_net('name: "fc"', 'name: "fc2"')
    events = []
    source = Solver(logged())
    tuned = Solver(logged(weights='"out/run_iter_2.caffemodel"'), [events.append])
    texts = [event.text for event in events if hasattr(event, "text")]
    assert "Finetuning from out/run_iter_2.caffemodel" in texts
    assert any("copied" in text and "fc2" in text for text in texts)
    assert not torch.equal(tuned.net.layer("conv1").blobs[0], source.net.layer("conv1").blobs[0])


def test_the_newest_snapshots_stay(logged):
    for name in ("other_iter_1.solverstate", "run_iter_1_old.solverstate", "run_iter_9.solverstate"):
        Path("out").mkdir(exist_ok=True)
        Path("out", name).write_bytes(b"")  # of other runs: not ours to remove
    solver = Solver(logged(snapshot=1, snapshot_keep=2, max_iter=4))
    solver.solve()
    found = {path.name for path in Path("out").glob("run_iter_?.*")}
    kinds = ("caffemodel", "solverstate", "resume.json")
    assert found == {f"run_iter_{i}.{kind}" for i in (3, 4) for kind in kinds} | {"run_iter_9.solverstate"}


def test_the_solverstate_appears_last(logged, monkeypatch):
    """A run killed at any time leaves no solverstate without what belongs to it."""
    order, replace = [], os.replace

    def renamed(part, path):
        order.append(os.path.basename(path))
        replace(part, path)

    monkeypatch.setattr("os.replace", renamed)
    saved(logged)
    whole = [name for name in order if not name.endswith(".part")]
    assert whole == [f"run_iter_2.{kind}" for kind in ("caffemodel", "resume.json", "solverstate")]


def test_another_random_seed_is_not_taken_and_told(logged):
    Solver(logged(snapshot=2, max_iter=2, random_seed=5)).solve()
    notes = []
    listener = [lambda event: notes.append(event.text) if isinstance(event, Note) else None]
    solver = Solver(logged(max_iter=4, random_seed=6), listener)
    solver.restore("out/run_iter_2.solverstate")
    assert solver.seed == 5
    assert "goes on with the snapshot's seed 5, not with random_seed 6" in notes


def test_the_latest_whole_snapshot(logged):
    solver = Solver(logged(snapshot=2, max_iter=6))
    solver.solve()
    damaged = Path("out/run_iter_6.solverstate")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    Path("out/run_iter_4.caffemodel").unlink()
    notes = []
    other = Solver(logged(), [lambda event: notes.append(event.text) if isinstance(event, Note) else None])
    other.restore_latest()
    assert other.iter == 2
    aloud = [text for text in notes if text.endswith("trying the one before")]
    assert "run_iter_6" in aloud[0] and "run_iter_4" in aloud[1] and len(aloud) == 2


def test_the_latest_of_none_is_the_start(logged):
    notes = []
    solver = Solver(logged(), [lambda event: notes.append(event.text) if isinstance(event, Note) else None])
    solver.restore_latest()
    assert solver.iter == 0 and notes[-1] == "no snapshot out/run_iter_*: from the start"


def test_the_latest_of_damaged_ones_alone_is_an_error(logged):
    state = Path(saved(logged))
    state.write_bytes(b"")
    with pytest.raises(ValueError, match=r"run_iter_2\.solverstate"):
        Solver(logged()).restore_latest()


def copied_away(folder, iteration):
    """A copy of a snapshot's three files; its .solverstate."""
    Path(folder).mkdir()
    for path in Path("out").glob(f"run_iter_{iteration}.*"):
        shutil.copy(path, folder)
    return f"{folder}/run_iter_{iteration}.solverstate"


def test_a_copied_snapshot_is_resumed_with_its_own_weights(logged):
    """Though another run has written a .caffemodel where the state says its own is."""
    unbroken = Solver(logged(snapshot=2, random_seed=1))
    unbroken.solve()
    copy = copied_away("backup", 2)
    Solver(logged(snapshot=2, max_iter=2, random_seed=2)).solve()
    resumed = Solver(logged(random_seed=1))
    resumed.restore(copy)
    resumed.solve()
    assert_equal_bits(resumed, unbroken)
    Path("backup/run_iter_2.caffemodel").unlink()
    refuses(
        logged, copy, r"out/run_iter_2\.caffemodel is damaged or of another run: backup/run_iter_2\.resume"
    )


def test_another_run_of_the_prefix_loses_nothing_and_is_not_continued(logged):
    Solver(logged(snapshot=2, max_iter=6, random_seed=1)).solve()
    first = {path.name: path.read_bytes() for path in Path("out").glob("run_iter_*.*")}
    for path in Path("out").iterdir():
        os.utime(path, (1, 1))
    second, notes = Solver(logged(snapshot=2, snapshot_keep=1, max_iter=4, random_seed=2)), []
    second.listeners = [lambda event: notes.append(event.text) if isinstance(event, Note) else None]
    second.solve()
    assert "another run wrote out/run_iter_2.solverstate: its files are now called *.1" in notes
    for name, data in first.items():
        old = Path("out", name if "_6." in name else f"{name}.1")
        assert old.read_bytes() == data
    kinds = ("caffemodel", "solverstate", "resume.json")
    assert {p.name for p in Path("out").glob("run_iter_[24].*") if p.suffix != ".1"} == {
        f"run_iter_4.{kind}" for kind in kinds
    }
    latest = Solver(logged(random_seed=2), [second.listeners[0]])
    latest.restore_latest()
    assert (
        latest.iter == 4
        and "out/run_iter_6.solverstate is not of the run that wrote last: left alone" in notes
    )
    assert_equal_bits(latest, second)


def test_a_run_that_is_resumed_elsewhere_stays_one_run(logged):
    """Another max_iter and other paths; it writes over its own later snapshots."""
    Solver(logged(snapshot=1, max_iter=3)).solve()
    resumed = Solver(logged("longer.prototxt", snapshot=1, max_iter=4))
    resumed.restore("out/run_iter_2.solverstate")
    resumed.solve()
    assert not list(Path("out").glob("*.1"))
