"""pycaffe's solvers: crnn's loop over nets whose blobs live. Caffe: python/caffe/_caffe.cpp."""

import os
from collections.abc import Callable
from functools import cached_property, partial

import torch

from crnn.net import debug_info
from crnn.proto.upgrade import read_solver
from crnn.solver import lr_policy
from crnn.solver.solver import Solver as Loop

from . import glog, mode
from .live_net import LiveNet
from .net import Net


class LiveLoop(Loop):
    """The loop of `crnn train` on LiveNets.

    on_start, on_gradients_ready: called in each iteration, before its first forward and before its update.
    """

    net_type = LiveNet
    shares_at_once = False  # as in Caffe: a script may use a test net's own params before

    def __init__(self, param):
        self.on_start: list[Callable[[], None]] = []
        self.on_gradients_ready: list[Callable[[], None]] = []
        self._told_of: dict[LiveNet, bool] = {}  # nets of debug_info, and whether it is on now
        super().__init__(param, listeners=[glog.solver_lines], device=mode.device())
        self.leaves_moves = True  # scripts read the diffs after a step

    def clear_diffs(self) -> None:
        self.net.clear_param_diffs()

    def debug(self, net: LiveNet, on: bool) -> None:
        if on and net not in self._told_of:
            net.callbacks["after_forward"].append(partial(self._say_forward, net))
            net.callbacks["after_backward"].append(partial(self._say_backward, net))
        self._told_of[net] = on

    def _say_forward(self, net: LiveNet, i: int) -> None:
        if self._told_of[net]:
            tops = {name: net.live[name].values() for name in net.nodes[i].tops}
            for line in debug_info.forward_lines(net.nodes[i], tops):
                self.note(*line)

    def _say_backward(self, net: LiveNet, i: int) -> None:
        if self._told_of[net]:
            node = net.nodes[i]
            bottoms = [net.live[name].slopes() for name in node.bottoms]
            params = [node.layer.blobs.parameter(k).grad for k in range(len(node.layer.blobs))]
            for line in debug_info.backward_lines(node, net.needs[i], bottoms, params):
                self.note(*line)

    def _accumulate(self, feeds, rate):
        for callback in self.on_start:
            callback()
        done = super()._accumulate(feeds, rate)
        for callback in self.on_gradients_ready:
            callback()
        return done

    def backward(self, inputs=None) -> None:
        super().backward()  # live blobs carry no graph: this looks at the loss alone
        wanted = {id(x) for x in inputs or [param.blob for param in self.params]}
        others = [param.blob for param in self.params if id(param.blob) not in wanted]
        diffs = [None if blob.grad is None else blob.grad.clone() for blob in others]
        self.net.backward_layers(len(self.net.nodes) - 1, 0)
        if self._told_of[self.net]:
            self.note(*debug_info.total_line(self.net), severity="E")
        for blob, diff in zip(others, diffs, strict=True):
            blob.grad = diff

    def update(self, some, rate: float) -> None:
        """Moves the blobs, as they and their diffs were written."""
        self.net.push()
        super().update(some, rate)


class Solver:
    """A solver by its file; `type`, where a subclass has one, counts for more than the file's.

        solver = caffe.get_solver("solver.prototxt")
        solver.step(1)
        loss = solver.net.blobs["loss"].data

    Raises OSError, PrototxtError or ValueError for a solver or net that cannot be built.
    """

    type: str | None = None

    def __init__(self, solver_file):
        document = read_solver(solver_file)
        if self.type is not None:
            document.message.type = self.type
        if mode.seeded and document.message.random_seed < 0:
            document.message.random_seed = int(torch.randint(2**31, ()))
        self._loop = LiveLoop(document)

    @cached_property
    def net(self) -> Net:
        return Net._of(self._loop.net)

    @cached_property
    def test_nets(self) -> list[Net]:
        return [Net._of(net) for net in self._loop.test_nets]

    @property
    def iter(self) -> int:
        """Updates done."""
        return self._loop.iter

    @property
    def param(self):
        """The SolverParameter; what is changed in it holds from the next iteration on."""
        return self._loop.param

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        loop = self._loop
        return lr_policy.rate(loop.param, loop.iter, loop.current_step)[0]

    def step(self, iterations: int) -> None:
        """Does so many iterations, with the tests, displays and snapshots that fall due."""
        self._loop.step(iterations)

    def solve(self, resume_file=None) -> None:
        """Trains to max_iter, from a .solverstate if one is given."""
        if resume_file:
            self.restore(resume_file)
        self._loop.solve()

    def apply_update(self) -> None:
        """Moves the blobs by their diffs, which counts as an iteration."""
        loop = self._loop
        rate, loop.current_step = lr_policy.rate(loop.param, loop.iter, loop.current_step)
        loop.update(loop.params, rate)
        loop.iter += 1

    def snapshot(self) -> None:
        """Writes <snapshot_prefix>_iter_<iter>.caffemodel and .solverstate."""
        self._loop.net.push()
        self._loop.snapshot()

    def restore(self, path) -> None:
        self._loop.net.push()
        self._loop.restore(os.fspath(path))

    def share_weights(self, net: Net) -> None:
        """`net` uses the memory of this solver's params from now on."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Two callables that each iteration calls: before its first forward, and before its update."""
        self._loop.on_start.append(on_start)
        self._loop.on_gradients_ready.append(on_gradients_ready)


class SGDSolver(Solver):
    type = "SGD"


class NesterovSolver(SGDSolver):
    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    type = "AdaDelta"


class AdamSolver(SGDSolver):
    type = "Adam"


def get_solver(solver_file) -> Solver:
    """The solver of the type that the file names. Raises as Solver."""
    wanted = read_solver(solver_file).message.type
    types = (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
    return next((cls for cls in types if cls.type == wanted), Solver)(solver_file)
