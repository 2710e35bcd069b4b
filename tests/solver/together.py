"""Run by torchrun: what only several processes can show, one JSON line a rank."""

import json
import sys

import torch
from torch import distributed

from crnn.solver.events import Scored
from crnn.solver.ranks import Ranks, join, leave
from crnn.solver.solver import Solver

NET = """
  layer { name: "data" type: "DummyData" top: "data" top: "label"
    dummy_data_param { shape { dim: 4 dim: 3 dim: 5 } shape { dim: 4 } data_filler { type: "gaussian" }
      data_filler { type: "constant" } } }
  layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" batch_norm_param { sync: SYNC } }
  layer { name: "drop" type: "Dropout" bottom: "norm" top: "drop" include { phase: TRAIN } }
  layer { name: "fc" type: "InnerProduct" bottom: "norm" top: "fc" param { name: "w" } param { name: "b" }
    inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
  layer { name: "again" type: "InnerProduct" bottom: "data" top: "again"
    param { name: "w" } param { name: "b" }
    inner_product_param { num_output: 2 } }
  layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "again" top: "sum" }
  layer { name: "beside" type: "InnerProduct" bottom: "norm" top: "beside"
    inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""


def solver_text(sync: bool) -> str:
    fields = 'base_lr: 0.1 lr_policy: "fixed" random_seed: 3 max_iter: 9 snapshot_after_train: false'
    test = "test_iter: 1 test_interval: 9 test_initialization: false"
    return f"{fields} {test} net_param {{ {NET.replace('SYNC', str(sync).lower())} }}"


def solver(sync: bool, **options) -> Solver:
    return Solver(solver_text(sync), **options)


def batch(rank: int = 0, ranks: int = 1) -> dict:
    """Of eight records every ranks-th from `rank` on."""
    data = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(1))[rank::ranks]
    return {"data": data, "label": torch.zeros(len(data))}


def sums(one: Solver) -> list:
    return [blob.tolist() for blob in one.net.layer("norm").blobs]


def shown(rank: int) -> dict:
    found = {}
    one = solver(sync=False)
    one.step(2, batch(rank, 2))
    found["weights"] = one.net.layer("fc").blobs[0].tolist()
    found["unreached"] = one.net.layer("beside").blobs[0].grad is None
    found["dropped"] = one.net.blobs["drop"].eq(0).int().flatten().tolist()
    found["own_sums"] = sums(one)
    one.test_all()
    found["sums_after_a_test"] = sums(one)

    scored = []
    one = solver(
        sync=True, listeners=[lambda event: scored.append(event) if isinstance(event, Scored) else 0]
    )
    one.step(1, batch(rank, 2))
    found["synced_sums"] = sums(one)
    found["synced_weights"] = one.net.layer("fc").blobs[0].tolist()
    one.test(0)  # one batch for two processes
    found["scored"] = [[output.value for output in event.outputs] for event in scored]

    asked = [None, "snapshot" if rank else "stop"]
    one = solver(sync=False, requests=lambda: asked.pop() if asked else None)
    one.snapshot = lambda: None
    one.step(3, batch(rank, 2))
    found["stopped_at"] = one.iter

    try:
        bad = batch(rank, 2)
        if rank == 1:
            bad["data"][0, 0, 0] = float("nan")
        solver(sync=False).step(1, bad)
    except FloatingPointError as error:
        found["not_finite"] = str(error)

    try:
        Solver(solver_text(sync=False) + ' window_update: "sequential"')
    except ValueError as error:
        found["windows"] = str(error)
    return found


if __name__ == "__main__":
    join(torch.device("cpu"))
    result = shown(Ranks().rank)
    with open(f"{sys.argv[1]}/{Ranks().rank}.json", "w") as file:
        json.dump(result, file)
    distributed.barrier()
    leave()
