"""Times whole nets and C-RNN's layer against the real Caffe, on the CPU: forward and backward.

  make oracle && python benchmarks/against_caffe.py

Caffe runs in a process of its own, with the same text, weights, images and number of threads. Both sides
take turns; of a turn the run counts that follows a tenth of a second of others. Caffe has no SpatialRNN:
there the layer is some 800 stock layers (unrolled.py), as Zuo 2015 trained it. Nothing is timed before
outputs and gradients agree.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
import numpy as np
import torch

from crnn.host_memory import keep_freed
from crnn.net.net import Net
from crnn.proto.text import dump
from crnn.testing import ScanCase, relative_error

from . import floors, machine, run, table, timing, train, unrolled
from .real_caffe import RealCaffe

#: Relative error allowed between the two, both in float32: their sums differ in order. Far from the loss
#: rounding has moved some maxima of a pooling and some signs of a ReLU, and with them whole terms.
NEAR, FAR = 1e-4, 2e-2


class Pair(NamedTuple):
    """A net for each side, and the blobs to feed.

    compared: the error allowed of a blob's data, or of "layer/index", a parameter's gradient.
    copy(net): arrays by "layer/index" of Caffe's net, from ours.
    work: what the layer that the net consists of must do at least, if it is one.
    """

    ours: str
    caffes: str
    feed: dict[str, torch.Tensor]
    compared: dict[str, float]
    copy: Callable[[Net], dict[str, np.ndarray]]
    work: floors.Work | None = None


def named(net: Net) -> dict[str, np.ndarray]:
    return {f"{p.layer}/{p.index}": p.parameter.detach().numpy() for p in net.params}


def alexnet(batch: int) -> Pair:
    """prototxt_like/alexnet without its data; no unit is dropped, so that both compute the same."""
    param = train.without_data("alexnet", batch)
    for layer in param.layer:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = 0
    rng = torch.Generator().manual_seed(1)
    feed = {"data": 60 * torch.randn(batch, 3, 227, 227, generator=rng)}
    feed["label"] = torch.randint(1000, (batch,), generator=rng).float()
    text = dump(param)
    return Pair(text, text, feed, {"loss": NEAR, "fc8/0": NEAR, "conv1/0": FAR}, named)


def crnn_layer(batch: int) -> Pair:
    """C-RNN's layer on pool5, and the sum of what comes out as the loss.

    x is the data plus a parameter, whose gradient is that of x: `force_backward` would make Caffe ignore the
    cuts between windows.
    """
    D, side = 256, 6
    loss = unrolled.layer(
        "Reduction", "loss", ["y"], ["loss"], "loss_weight: 1 reduction_param { operation: SUM }"
    )
    bias = unrolled.layer("Bias", "bias", ["data"], ["x"], "bias_param { axis: 0 num_axes: -1 }")
    source = [unrolled.source("data", batch, D, side, side), bias]
    filler = 'weight_filler { type: "xavier" } recurrent_filler { type: "identity" value: 0.2 }'
    setting = f'spatial_rnn_param {{ num_output: {D} line_break: "carry_value" {filler} }}'
    ours = [*source, unrolled.layer("SpatialRNN", "rnn", ["x"], ["y"], setting), loss]
    caffes = [*source, *unrolled.unrolled(side, side, "carry_value", D), loss]

    def copy(net: Net) -> dict[str, np.ndarray]:
        """Of the layers that own a shared blob: those of each direction's first two steps."""
        values, (w_ih, b, w_hh) = {}, (blob.detach().numpy() for blob in net.layer("rnn").blobs)
        for k, direction in enumerate(unrolled.FOUR):
            first, second = [p for window in unrolled.windows(direction, side, side) for p in window][:2]
            owner = f"ih_h_{direction}_{first[0]}_{first[1]}"
            values |= {f"{owner}/0": w_ih[k], f"{owner}/1": b[k]}
            values[f"hh_h_{direction}_{second[0]}_{second[1]}_re/0"] = w_hh[k]
        return values

    feed = {"data": torch.randn(batch, D, side, side, generator=torch.Generator().manual_seed(1))}
    texts = ("\n".join(layers) for layers in (ours, caffes))
    case = ScanCase("relu", "carry_value", unrolled.FOUR, batch, side, side, D)
    work = floors.work(case, "spatial_rnn", "forward+backward", 4)
    return Pair(*texts, feed, {"y": NEAR, "bias/0": NEAR}, copy, work)


CASES = {
    "alexnet-b64": partial(alexnet, 64),
    "alexnet-b10": partial(alexnet, 10),
    "crnn-layer-b32": partial(crnn_layer, 32),
}


def measure(name: str, arguments) -> dict:
    """A row: both sides' times, or why they are not compared."""
    pair = CASES[name]()
    torch.manual_seed(1)  # with 2 of 12 seeds rounding decides one ReLU of C-RNN, and 256 gradients with it
    net, threads = Net(pair.ours, phase="TRAIN"), torch.get_num_threads()
    rates = pair.work and floors.measure("fp32", "cpu")

    def ours():
        for parameter in net.parameters():
            parameter.grad = None
        net(**pair.feed)
        net.loss().backward()

    values = pair.copy(net) | {n: v.numpy() for n, v in pair.feed.items()}
    with RealCaffe(pair.caffes, values, threads) as caffe:
        ours()
        caffe.timer()
        for compared, tolerance in pair.compared.items():
            error = relative_error(mine(net, compared), theirs(caffe, compared))
            if not error <= tolerance:
                return {"name": name, "na": f"wrong: {compared} differs from the real Caffe's by {error:.1e}"}
        sides = {"crnn": timing.eager(ours, "cpu"), "real Caffe": caffe.timer}
        times = run.take_turns({who: timing.settled(timer) for who, timer in sides.items()}, arguments)
    row = {"name": name, "contestants": {who: {"wall": t} for who, t in times.items()}}
    if pair.work:
        rates = rates.better(floors.measure("fp32", "cpu"))  # the first may have met a busy machine
        row["floor"] = floors.floor(pair.work, rates)
    return row


def mine(net: Net, name: str) -> torch.Tensor:
    layer, _, index = name.rpartition("/")
    return net.layer(layer).blobs[int(index)].grad if layer else net.blobs[name].detach()


def theirs(caffe: RealCaffe, name: str) -> torch.Tensor:
    return caffe.array("diff" if "/" in name else "data", name)


def text(result: dict, layout=table.terminal) -> str:
    lines = [["net", "crnn ms", "real Caffe ms", "faster"]]
    for row in result["rows"]:
        if "na" in row:
            lines.append([row["name"], row["na"], "", ""])
            continue
        t, other = (row["contestants"][who]["wall"] for who in ("crnn", "real Caffe"))
        cells = [
            f"{table.number(x['ms'])} ({table.number(x['p20'])}-{table.number(x['p80'])})" for x in (t, other)
        ]
        lines.append([row["name"], *cells, f"{other['ms'] / t['ms']:.2f}x"])
    return layout(lines)


def main(argv: list[str] | None = None) -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="benchmarks/against_caffe.py", description=__doc__, formatter_class=formatter
    )
    add = parser.add_argument
    add("--net", nargs="+", choices=CASES, default=list(CASES), help="default all")
    add("--threads", type=int, help="of either side (default: torch's)")
    add("--runs", type=int, default=20, help="most timed runs of each side (default 20, at least 5)")
    add("--seconds", type=float, default=60, help="about what the runs of one net may take (default 60)")
    add("--out", type=Path, default=machine.RESULTS, metavar="FOLDER", help=machine.RESULTS_HELP)
    add("--markdown", action="store_true", help="print the table as markdown")
    arguments = parser.parse_args(argv)
    keep_freed()  # as `crnn train`; for either side
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = {"schema": run.SCHEMA, "setup": machine.setup("cpu"), "before": machine.state("cpu"), "rows": []}
    for name in arguments.net:
        print(name, file=sys.stderr, flush=True)
        result["rows"].append(measure(name, arguments))
    result["after"] = machine.state("cpu")
    print(", ".join(f"{k} {v}" for k, v in {**result["setup"], **result["before"]}.items()))
    print(text(result, table.markdown if arguments.markdown else table.terminal))
    machine.write("caffe", result, arguments.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/against_caffe.py: {error}")
