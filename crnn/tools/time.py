"""time: how long each layer of a net takes forward and backward, as `caffe time` measures it."""

import argparse
import sys
import time

import torch
from torch import Tensor

from crnn.host_memory import keep_freed
from crnn.net.net import Net, run
from crnn.solver.events import Note
from crnn.solver.log import GlogLines, number
from crnn.tools import flags

EPILOG = """\
example:
  crnn time -model train_val.prototxt -iterations 10

Input layers give zeros. The first pass, in which memory is found and kernels are chosen, is not counted.
Backward of a layer is timed with ones as the gradient of its tops."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn time",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="the net prototxt")
    parser.add_argument("--iterations", type=int, default=50, help="passes to average over (default 50)")
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN", help="default TRAIN")
    parser.add_argument("--gpu", metavar="ID", help="a CUDA device; without it the CPU")
    parser.add_argument("--level", type=int, default=0, help="level of the net's state")
    parser.add_argument(
        "--stage", type=flags.comma_list, default=[], metavar="A,B", help="stages of the net's state"
    )
    arguments = parser.parse_args(flags.normalise(argv))
    if arguments.iterations < 1:
        raise ValueError(f"-iterations must be at least 1, got {arguments.iterations}")
    keep_freed()
    device = flags.device(arguments.gpu)
    log = GlogLines(sys.stderr)
    log(Note("caffe.cpp:343", flags.device_note(device)))
    stages = tuple(arguments.stage)
    net = Net(arguments.model, phase=arguments.phase, stages=stages, level=arguments.level).to(device)
    measure(net, arguments.iterations, lambda line, text: log(Note(f"caffe.cpp:{line}", text)))
    return 0


def measure(net: Net, iterations: int, say) -> None:
    """Says Caffe's lines: (line of caffe.cpp, text)."""
    given = {name: torch.zeros(net.shapes[name]) for name in net.inputs}
    say(351, "Performing Forward")
    net(**given)
    say(356, f"Initial loss: {number(net.loss().item() if net.loss_weights else 0.0)}")
    say(357, "Performing Backward")
    Pass(net, given)
    say(365, "*** Benchmark begins ***")
    say(366, f"Testing for {iterations} iterations.")
    start, passes = clock(net), []
    for i in range(iterations):
        passes.append(Pass(net, given))
        spent = sum(passes[-1].forward) + sum(passes[-1].backward)
        say(394, f"Iteration: {i + 1} forward-backward time: {number(spent)} ms.")
    total = clock(net) - start
    forward, backward = (
        [sum(times) / iterations for times in zip(*lists, strict=True)]
        for lists in ([p.forward for p in passes], [p.backward for p in passes])
    )
    say(397, "Average time per layer: ")
    for node, there, back in zip(net.nodes, forward, backward, strict=True):
        say(400, f"{node.layer.name:>10}\tforward: {number(there)} ms.")
        say(403, f"{node.layer.name:>10}\tbackward: {number(back)} ms.")
    say(408, f"Average Forward pass: {number(sum(forward))} ms.")
    say(410, f"Average Backward pass: {number(sum(backward))} ms.")
    say(412, f"Average Forward-Backward: {number(total / iterations)} ms.")
    say(414, f"Total Time: {number(total)} ms.")
    say(415, "*** Benchmark ends ***")


class Pass:
    """One forward and backward, layer by layer: milliseconds of each, in the net's order."""

    def __init__(self, net: Net, given: dict[str, Tensor]):
        net.zero_grad(set_to_none=True)
        blobs: dict[str, Tensor] = {}
        made, self.forward, self.backward = [], [], []
        for node in net.nodes:
            bottoms = [leaf(blobs[name], passes) for name, passes in zip_bottoms(node)]
            start = clock(net)
            if node.layer.source:
                tops = tuple(net.source(node, given).get(name) for name in node.tops)
            else:
                tops = run(node, bottoms)
            self.forward.append(clock(net) - start)
            blobs.update(zip(node.tops, tops, strict=True))
            made.append([top for top in tops if top is not None and top.requires_grad and top.grad_fn])
        for tops in reversed(made):
            gradients = [torch.ones_like(top) for top in tops]
            start = clock(net)
            if tops:
                torch.autograd.backward(tops, gradients)
            self.backward.append(clock(net) - start)
        self.backward.reverse()


def zip_bottoms(node):
    return zip(node.bottoms, node.passes_gradient, strict=True)


def leaf(blob: Tensor, passes: bool) -> Tensor:
    """The blob as a layer's own input, which its backward stops at."""
    return blob.detach().requires_grad_(passes and blob.requires_grad)


def clock(net: Net) -> float:
    """Milliseconds, when all that was asked of the device is done."""
    if net.like.is_cuda:
        torch.cuda.synchronize(net.like.device)
    return 1000 * time.perf_counter()
