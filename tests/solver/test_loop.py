"""CAFFE.md 1.4 and 1.5: which nets a solver builds, and what happens in which order."""

import pytest
import torch

from crnn.solver.events import Displayed, Finished, Note, Scored, Scoring, Started, Stepped
from crnn.solver.solver import Solver

NET = """
  layer { name: "data" type: "DummyData" top: "data" top: "label"
    dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" }
      data_filler { type: "constant" } } }
  layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
    inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
  layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
"""


def make(fields="", net=NET, **options):
    defaults = {"base_lr": 0.1, "lr_policy": '"fixed"', "random_seed": 3, "snapshot_after_train": "false"}
    head = [f"{name}: {value}" for name, value in defaults.items() if f"{name}:" not in fields]
    return Solver("\n".join([*head, fields, f"net_param {{ {net} }}"]), **options)


def diary(fields, requests=(), **options):
    """What solve() does, as short words in order."""
    events, pending = [], list(requests)
    solver = make(fields, listeners=[events.append], requests=lambda: pending.pop(0) if pending else None)
    events.clear()
    solver.solve()
    return [word for word in map(brief, events) if word], solver


def brief(event):
    match event:
        case Stepped():
            return f"step {event.iter}"
        case Scoring():
            return f"test {event.iter}"
        case Scored():
            return f"tested {event.iter}"
        case Displayed():
            return f"display {event.iter}"
        case Note(where="solver.cpp:464"):
            return "snapshot " + event.text.rsplit("_", 1)[1].split(".")[0]
        case Note(where="solver.cpp:327" | "solver.cpp:322" | "solver.cpp:332" | "solver.cpp:395"):
            return event.text.split(",")[0]
        case Started() | Finished():
            return type(event).__name__.lower()
    return None


def test_order_of_a_run(tmp_path):
    words, solver = diary(
        f'max_iter: 4 test_iter: 1 test_interval: 2 display: 2 snapshot: 2 snapshot_prefix: "{tmp_path}/a"'
        " snapshot_after_train: true"
    )
    assert words == [
        "started",
        *("test 0", "tested 0", "step 0", "display 0", "step 1", "snapshot 2"),
        *("test 2", "tested 2", "step 2", "display 2", "step 3", "snapshot 4"),
        *("Iteration 4", "test 4", "tested 4", "Optimization Done."),
        "finished",
    ]
    assert solver.iter == 4


def test_without_test_initialization_the_first_test_is_at_the_interval():
    words, _ = diary("max_iter: 3 test_iter: 1 test_interval: 2 test_initialization: false")
    assert words[:5] == ["started", "step 0", "step 1", "test 2", "tested 2"]


def test_snapshot_after_train_fills_the_gap(tmp_path):
    words, _ = diary(f'max_iter: 3 snapshot: 2 snapshot_prefix: "{tmp_path}/a" snapshot_after_train: true')
    assert [w for w in words if w.startswith("snapshot")] == ["snapshot 2", "snapshot 3"]


def test_stop_acts_after_the_update_and_skips_the_final_test(tmp_path):
    prefix = f'snapshot_prefix: "{tmp_path}/a" snapshot_after_train: true'
    words, solver = diary(f"max_iter: 9 display: 1 {prefix}", [None, "stop"])
    assert words[-4:] == ["display 1", "snapshot 2", "Optimization stopped early.", "finished"]
    assert solver.stopped


def test_stop_acts_between_test_batches():
    words, _ = diary("max_iter: 9 test_iter: 5 test_interval: 1", [None, None, "stop"])
    assert words == ["started", "test 0", "Test interrupted.", "Optimization stopped early.", "finished"]


def test_snapshot_request_goes_on(tmp_path):
    words, solver = diary(f'max_iter: 3 snapshot_prefix: "{tmp_path}/a"', ["snapshot"])
    assert "snapshot 1" in words
    assert solver.iter == 3


def test_loss_is_smoothed_over_average_loss():
    events = []
    solver = make("max_iter: 5 average_loss: 3", listeners=[events.append])
    losses = []
    for _ in range(5):
        solver.step(1)
        losses.append(solver.net.loss().item())
    smoothed = [event.loss for event in events if isinstance(event, Stepped)]
    assert smoothed == pytest.approx(
        [sum(losses[max(0, i - 2) : i + 1]) / len(losses[max(0, i - 2) : i + 1]) for i in range(5)]
    )


def test_test_nets_use_the_train_nets_blobs():
    solver = make("max_iter: 1 test_iter: 1 test_interval: 1")
    assert solver.test_nets[0].layer("fc").blobs[0] is solver.net.layer("fc").blobs[0]


def test_test_is_the_mean_over_test_iter():
    solver = make("max_iter: 1 test_iter: 3 test_interval: 1 test_compute_loss: true")
    x = [torch.randn(4, 3) for _ in range(3)]
    feeds = [{"data": batch, "label": torch.zeros(4)} for batch in x]
    outputs = {output.name: output for output in solver.test(0, feeds)}
    means = [solver.test_nets[0](**feed)["loss"].item() for feed in feeds]
    assert outputs["loss"].value == pytest.approx(sum(means) / 3)
    assert outputs["loss"].weight == 1
    assert outputs["acc"].weight == 0


def test_train_and_test_states_choose_layers():
    """Caffe's TestInitTrainTestNets: stages and levels of train_state and each test_state."""
    net = (
        NET
        + """
      layer { name: "a" type: "Accuracy" bottom: "fc" bottom: "label" top: "a" include { stage: "extra" } }
      layer { name: "b" type: "Accuracy" bottom: "fc" bottom: "label" top: "b" include { min_level: 2 } }
    """
    )
    solver = make(
        'test_iter: 1 test_iter: 1 test_interval: 1 train_state { stage: "extra" }'
        ' test_state { level: 2 } test_state { stage: "extra" }',
        net,
    )
    names = [{layer.name for layer in n.layers} for n in [solver.net, *solver.test_nets]]
    assert ["a" in n for n in names] == [True, False, True]
    assert ["b" in n for n in names] == [False, True, False]


def test_own_test_nets_come_before_the_generic_one(tmp_path):
    own = tmp_path / "own.prototxt"
    own.write_text('name: "own" ' + NET)
    solver = make(f'test_net: "{own}" test_iter: 1 test_iter: 1 test_interval: 1', 'name: "generic" ' + NET)
    assert [net.name for net in solver.test_nets] == ["own", "generic"]


def test_same_seed_same_run():
    """random_seed decides fillers and data; each iteration's draws depend on it and the iteration alone."""
    runs = [make("max_iter: 3"), make("max_iter: 3")]
    for solver in runs:
        solver.step(3)
    assert torch.equal(runs[0].params[0].blob, runs[1].params[0].blob)


def test_runs_without_a_seed_differ():
    a, b = make("random_seed: -1"), make("random_seed: -1")
    assert a.seed != b.seed
    assert not torch.equal(a.params[0].blob, b.params[0].blob)


def test_multistep_tells_when_it_steps():
    events = []
    solver = make('lr_policy: "multistep" gamma: 0.1 stepvalue: 1 display: 1', listeners=[events.append])
    solver.step(2)
    notes = [
        event.text for event in events if isinstance(event, Note) and event.where.startswith("sgd_solver")
    ]
    assert notes == [
        "Iteration 0, lr = 0.1",
        "MultiStep Status: Iteration 1, step = 1",
        "Iteration 1, lr = 0.01",
    ]


def test_a_feed_that_is_too_short():
    solver = make("iter_size: 2")
    with pytest.raises(ValueError, match="the feed ended before the last pass"):
        solver.step(1, [{"data": torch.ones(4, 3), "label": torch.zeros(4)}])


def test_clipping_is_told():
    events = []
    make("clip_gradients: 1e-6", listeners=[events.append]).step(1)
    assert any(isinstance(e, Note) and e.text.startswith("Gradient clipping: scaling down") for e in events)


@pytest.mark.parametrize(
    "text, message",
    [
        ('lr_policy: "fixed"', "needs one of net, net_param, train_net, train_net_param; it has none"),
        ('lr_policy: "fixed" net: "a" train_net: "b"', "it has net and train_net"),
        ('lr_policy: "fixed" iter_size: 0', "iter_size must be at least 1, got 0"),
        ('lr_policy: "stepped" net: "a"', "unknown lr_policy 'stepped'; did you mean 'step'"),
        ('lr_policy: "fixed" net: "a" window_update: "twice"', "unknown window_update 'twice'; known: accum"),
        ('lr_policy: "fixed" net: "a" window_update: "sequential" iter_size: 2', "needs iter_size 1"),
        ('lr_policy: "fixed" net: "nowhere.prototxt"', "nowhere.prototxt"),
    ],
)
def test_bad_solvers(text, message):
    with pytest.raises((ValueError, OSError), match=message):
        Solver(text + "\n")


@pytest.mark.parametrize(
    "fields, message",
    [
        ("test_iter: 0 test_interval: 1", r"every test_iter must be at least 1, got \[0\]"),
        ("test_iter: 1", "test_interval is not"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", "1 test nets but 2 test_state"),
        ('test_net: "a" test_interval: 1', "1 test nets but 0 test_iter"),
    ],
)
def test_bad_test_nets(fields, message):
    with pytest.raises(ValueError, match=message):
        make(fields)
