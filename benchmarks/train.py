"""Times whole nets: forward, forward and backward, a training step with its update; against plain torch.

  python benchmarks/train.py --batch 16
  python benchmarks/train.py --device cuda --batch 256 --autocast bf16 --channels-last

The nets are prototxt_like/alexnet and crnn as they are, but for the data, which are random, of true size, and
lie in the device's memory. The peer is the same net written in torch, with nn.LocalResponseNorm, for C-RNN
with a loop over the map. Nothing is timed before loss and gradients of both agree. All nets take turns.
"""

import argparse
import copy
import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # peak memory comes from the profiler, which chats
import torch
import torch.nn.functional as F

from crnn.host_memory import keep_freed
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net, read_solver
from crnn.solver.solver import Solver
from crnn.testing import relative_error

from . import cases, machine, plain_nets, run, table, timing

#: -no-lrn: without the two LRN layers, as what these cost. Not in the default list.
NETS, LAMED = ("alexnet", "crnn"), "-no-lrn"
MODES = ("forward", "forward+backward", "training step")
TOLERANCE = 1e-8  # of loss and gradients in float64; the alpha of a prototxt is a float, 1e-4 to 3e-8 of it


def home(net: str) -> Path:
    return cases.ROOT / "prototxt_like" / net.removesuffix(LAMED)


def without_data(net: str, batch: int) -> pb.NetParameter:
    """The net's train_val.prototxt with its databases replaced by blobs that the caller gives."""
    param = read_net(home(net) / "train_val.prototxt").message
    layers, renamed = [], {}
    for layer in param.layer:
        layer.bottom[:] = [renamed.get(name, name) for name in layer.bottom]
        if net.endswith(LAMED) and layer.type == "LRN":
            renamed[layer.top[0]] = layer.bottom[0]
        elif layer.type != "Data":
            layers.append(layer)
    given = pb.LayerParameter(name="data", type="Input", top=["data", "label"])
    for dims in ((batch, 3, 227, 227), (batch,)):
        given.input_param.shape.add().dim.extend(dims)
    del param.layer[:]
    param.layer.extend([given, *layers])
    return param


class Ours:
    """The net under its own solver."""

    def __init__(self, name: str, feed: dict, arguments):
        self.param = without_data(name, len(feed["data"]))
        solver = read_solver(home(name) / "solver.prototxt").message
        for field in ("net", "test_iter", "test_interval", "snapshot"):
            solver.ClearField(field)
        solver.net_param.CopyFrom(self.param)
        solver.snapshot_after_train, solver.random_seed, solver.display = False, 1, 0
        self.solver = Solver(solver, device=arguments.device)
        self.net, self.feed = self.solver.net, feed
        if arguments.channels_last:
            self.net.to(memory_format=torch.channels_last)

    def gradients(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """Loss and gradients with dropout off, all computed in dtype."""
        net = Net(dump(self.param), phase="TEST").to(self.feed["data"].device)
        net.share_weights(self.net)
        net = copy.deepcopy(net).to(dtype)
        net(**self.feed)
        return [net.loss(), *torch.autograd.grad(net.loss(), [p.parameter for p in net.params])]

    def forward(self):
        with torch.no_grad():
            self.net(**self.feed)

    def forward_backward(self):
        for param in self.net.parameters():
            param.grad = None
        self.net(**self.feed)
        self.net.loss().backward()

    def step(self):
        self.solver.step(1, self.feed)


class Plain:
    """The same net in torch with the same weights."""

    def __init__(self, name: str, ours: Ours, arguments):
        self.feed = ours.feed
        self.net = plain_nets.build(name, len(self.feed["data"]), arguments.device)
        with torch.no_grad():
            for mine, theirs in zip(self.net.parameters(), ours.net.params, strict=True):
                mine.copy_(theirs.parameter)
        if arguments.channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.optimizer = plain_nets.sgd(self.net)

    def loss(self):
        return F.cross_entropy(self.net(self.feed["data"]), self.feed["label"])

    def gradients(self, dtype: torch.dtype) -> list[torch.Tensor]:
        """Loss and gradients with dropout off, all computed in dtype."""
        net = copy.deepcopy(self.net).to(dtype).eval()
        loss = F.cross_entropy(net(self.feed["data"].to(dtype)), self.feed["label"])
        return [loss, *torch.autograd.grad(loss, list(net.parameters()))]

    def forward(self):
        with torch.no_grad():
            self.loss()

    def forward_backward(self):
        self.optimizer.zero_grad()
        self.loss().backward()

    def step(self):
        self.forward_backward()
        self.optimizer.step()


def disagreement(ours: Ours, plain: Plain) -> str:
    """Which result of the two nets differs too much; "" if none does.

    In float64: in float32 rounding moves a value over an edge of relu or max pooling now and then, in either
    net, and the gradient of conv1 by 1e-3 and more. How exact each op is in float32: benchmarks/run.py.
    """
    names = ["loss", *(f"{p.layer}[{p.index}]" for p in ours.net.params)]
    pairs = zip(names, *(side.gradients(torch.float64) for side in (ours, plain)), strict=True)
    for name, mine, theirs in pairs:
        error = relative_error(mine, theirs)
        if not error <= TOLERANCE:
            return f"wrong: {name} differs from plain torch's by {error:.1e}"
    return ""


def in_precision(function, arguments):
    """The function under --autocast; on a GPU its gradients too come from bf16 products."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def call():
        wanted = arguments.autocast != "none"
        with torch.autocast(arguments.device, kinds[arguments.autocast]) if wanted else nullcontext():
            function()

    return call


def rnn_alone(net: Net, batch: int, device: str, channels_last: bool = False):
    """Forward and backward of C-RNN's recurrent layer by itself, on a map of pool5's size."""
    layer = net.layer("rnn")
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch, 256, 6, 6, device=device).contiguous(memory_format=order).requires_grad_()

    def call():
        (y,) = layer(x)
        torch.autograd.grad(y, [x, *layer.blobs], torch.ones_like(y))

    return call


def rows(arguments, say) -> list[dict]:
    """A row for each net and mode; all contestants of a mode take turns."""
    device = arguments.device
    rng = torch.Generator(device).manual_seed(1)
    data = 60 * torch.randn(arguments.batch, 3, 227, 227, generator=rng, device=device)
    if arguments.channels_last:
        data = data.contiguous(memory_format=torch.channels_last)
    feed = {"data": data, "label": torch.randint(1000, (len(data),), generator=rng, device=device)}
    sides = {}
    for name in arguments.net:
        say(f"{name}: building, comparing")
        ours = Ours(name, feed, arguments)
        plain = Plain(name, ours, arguments)
        sides[name] = {"crnn": ours, "plain torch": plain, "na": disagreement(ours, plain)}
    cases.set_tf32("tf32" if arguments.tf32 else "fp32")
    found = []
    for mode in MODES:
        say(mode)
        method = {"forward": "forward", "forward+backward": "forward_backward", "training step": "step"}[mode]
        calls = {}
        for name, side in sides.items():
            if not side["na"]:
                for who in ("crnn", "plain torch"):
                    calls[name, who] = in_precision(getattr(side[who], method), arguments)
        if mode == "forward+backward" and "crnn" in sides and not sides["crnn"]["na"]:
            alone = rnn_alone(sides["crnn"]["crnn"].net, len(data), device, arguments.channels_last)
            calls["crnn", "rnn layer"] = in_precision(alone, arguments)
        for call in calls.values():  # momentum and gradients are there before memory is counted
            call()
        memory = {key: timing.peak_bytes(call, device) for key, call in calls.items()}
        times = run.take_turns({k: timing.eager(c, device) for k, c in calls.items()}, arguments)
        found += [row(name, mode, sides[name]["na"], times, memory, arguments) for name in sides]
    return found


def row(net: str, mode: str, refused: str, times: dict, memory: dict, arguments) -> dict:
    contestants = {"crnn": {"na": refused}} if refused else {}
    for (name, who), wall in times.items():
        if name == net:
            rate = {} if who == "rnn layer" else {"images_per_second": arguments.batch / wall["ms"] * 1e3}
            contestants[who] = {"wall": wall, "peak_bytes": memory[name, who], **rate}
    return {"net": net, "mode": mode, "batch": arguments.batch, "contestants": contestants}


def lines(result: dict, reasons: table.Reasons) -> list[list[str]]:
    head = [
        "net",
        "mode",
        "crnn ms",
        "images/s",
        "plain torch ms",
        "images/s",
        "faster",
        "peak MB",
        "torch's",
        "RNN",
    ]
    found = [head]
    for row in result["rows"]:
        ours, plain = (row["contestants"].get(who) for who in ("crnn", "plain torch"))
        if "na" in ours:
            found.append([row["net"], row["mode"], reasons(ours["na"]), *[""] * 7])
            continue
        text = [row["net"], row["mode"]]
        for side in (ours, plain):
            t = side["wall"]
            text.append(f"{table.number(t['ms'])} ({table.number(t['p20'])}-{table.number(t['p80'])})")
            text.append(f"{side['images_per_second']:.0f}")
        text.append(f"{plain['wall']['ms'] / ours['wall']['ms']:.2f}x")
        text += [f"{side['peak_bytes'] / 2**20:.0f}" for side in (ours, plain)]
        alone = row["contestants"].get("rnn layer")
        text.append(f"{alone['wall']['ms'] / ours['wall']['ms']:.1%}" if alone else "")
        found.append(text)
    return found


def text(result: dict, layout=table.terminal) -> str:
    """The table; below it what C-RNN costs beside AlexNet."""
    reasons, steps = table.Reasons(), {}
    body = layout(lines(result, reasons))
    for row in result["rows"]:
        if row["mode"] == "training step" and "wall" in row["contestants"].get("crnn", {}):
            steps[row["net"]] = row["contestants"]["crnn"]["wall"]["ms"]
    cost = ""
    if steps.keys() >= set(NETS):
        cost = (
            f"\na training step of C-RNN takes {steps['crnn'] / steps['alexnet'] - 1:+.1%} beside AlexNet's"
        )
    return "\n".join([body, *reasons.notes(), "RNN: the recurrent layer alone, of the whole net."]) + cost


def parse(argv: list[str] | None) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="benchmarks/train.py", description=__doc__, formatter_class=formatter
    )
    add = parser.add_argument
    names = (*NETS, f"alexnet{LAMED}", f"crnn{LAMED}")
    add("--net", nargs="+", choices=names, default=list(NETS), help="default alexnet and crnn")
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch", type=int, help="images (16 on the CPU, 256 on a GPU)")
    add("--autocast", choices=("none", "bf16", "fp16"), default="none")
    add("--channels-last", action="store_true", help="images and weights in channels_last order")
    add("--tf32", action="store_true", help="allow TF32 in float32 products, for both sides")
    add("--runs", type=int, default=20, help="most timed runs of each side (default 20, at least 5)")
    add("--seconds", type=float, default=20, help="about what the runs of one mode may take (default 20)")
    add("--out", type=Path, default=machine.RESULTS, metavar="FOLDER", help=machine.RESULTS_HELP)
    add("--markdown", action="store_true", help="print the table as markdown")
    arguments = parser.parse_args(argv)
    keep_freed()  # as `crnn train`; for either side
    arguments.batch = arguments.batch or (256 if arguments.device == "cuda" else 16)
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device cuda: torch {torch.__version__} sees no GPU here")
    cases.set_tf32("fp32")  # while the nets are compared
    result = {"schema": run.SCHEMA, "setup": machine.setup(arguments.device)}
    options = ("batch", "autocast", "channels_last", "tf32")
    result["setup"] |= {name: getattr(arguments, name) for name in options}
    result["before"] = machine.state(arguments.device)
    result["rows"] = rows(arguments, partial(print, file=sys.stderr, flush=True))
    result["after"] = machine.state(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in {**result["setup"], **result["before"]}.items()))
    print(text(result, table.markdown if arguments.markdown else table.terminal))
    machine.write("train", result, arguments.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/train.py: {error}")
