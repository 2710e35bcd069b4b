"""The training loop, in Caffe's order (Caffe: src/caffe/solver.cpp, Solver::Step and Solver::Solve)."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from crnn.net import weights
from crnn.net.debug_info import DebugNet
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import Document, dump
from crnn.proto.upgrade import read_solver
from crnn.solver import adaptive, lr_policy, nets, params, prefix, resume, sgd, snapshot  # noqa: F401 (adaptive registers its types)
from crnn.solver.events import (
    Displayed,
    Event,
    Finished,
    Note,
    Output,
    Scored,
    Scoring,
    Started,
    Stepped,
    outputs_of,
)
from crnn.solver.precision import Precision
from crnn.solver.ranks import Ranks, bad_images, loaders
from crnn.solver.schedule import Feed, check, due, each_pass, seed_of
from crnn.solver.scores import Scores
from crnn.solver.windows import Windows


class Solver:
    """A train net, test nets on the same blobs, and an update rule.

    source: path or text of a solver prototxt, its Document, or a SolverParameter.
    listeners: callables that take the events of crnn.solver.events.
    requests: asked at every step boundary and test batch for "stop", "snapshot" or None (Signals.take).
    device: where the nets live.

    Torch's generator is seeded by (seed, i) before iteration i, so that a resumed run draws what the unbroken
    one does; the seed is random_seed, or drawn anew if that is negative.

    In a process group each process has a Solver of the same text: it reads its records of each train batch
    and its batches of each test, gradients, losses and scores are those of all, and rank 0 writes.

    Raises ValueError or PrototxtError for a solver or net that cannot be built.
    """

    net_type: type[Net] = Net
    shares_at_once = True  # test nets use the train net's blobs from the start; else from their first test on

    def __init__(
        self,
        source: str | os.PathLike | Document | pb.SolverParameter,
        listeners: Iterable[Callable[[Event], None]] = (),
        requests: Callable[[], str | None] = lambda: None,
        device: str | torch.device = "cpu",
    ):
        if isinstance(source, str | os.PathLike):
            source = read_solver(source)
        self.param = source.message if isinstance(source, Document) else source
        self.listeners, self.requests, self.device = list(listeners), requests, torch.device(device)
        try:
            check(self.param)
            self.rule = sgd.build(self.param)
        except ValueError as error:
            raise ValueError(f"{getattr(source, 'name', 'solver')}: {error}") from None
        self.ranks = Ranks()
        if self.param.snapshot and self.ranks.rank == 0:
            prefix.probe(self.param.snapshot_prefix, 0)
        self.leaves_moves = self.param.snapshot_diff
        drawn = self.param.random_seed if self.param.random_seed >= 0 else torch.seed() >> 1
        self.seed = self.ranks.of_first(drawn)
        torch.manual_seed(self.seed)
        self._build_nets()
        self.run_id = resume.identity(self)
        self.iter = self.current_step = 0
        self.losses: deque[float] = deque(maxlen=self.param.average_loss)  # its mean is the smoothed loss
        self.stopped = False  # by a request, before max_iter
        self.last_snapshot: str | None = None
        self._started = self._displayed = time.monotonic()
        self._since = (0, 0)  # iterations and images since the last display

    def _build_nets(self) -> None:
        self.note("solver.cpp:45", f"Initializing solver from parameters: \n{dump(self.param)}")
        kind = DebugNet if self.param.debug_info and self.net_type is Net else self.net_type
        self.net = nets.train_net(self.param, self.note, kind).to(self.device)
        self.test_nets = [net.to(self.device) for net in nets.test_nets(self.param, self.net, self.note)]
        for net in self.test_nets:
            if self.shares_at_once:
                net.share_weights(self.net)
            self.debug(net, self.param.debug_info)
        for path in (path for entry in self.param.weights for path in entry.split(",") if path):
            self.note("caffe.cpp:155", f"Finetuning from {path}", shown=True)
            self.note("weights.py", str(weights.load(self.net, path)), shown=True)
        self.bad_images = [bad for net in (self.net, *self.test_nets) for bad in bad_images(net)]
        self.params = params.collect(self.net, self.rule.histories, self.param.legacy_shared_decay)
        kind = self.param.window_update
        if kind != "accumulate" and self.ranks.count > 1:
            raise ValueError(f'window_update: "{kind}" trains in one process; there are {self.ranks.count}')
        self.windows = None if kind == "accumulate" else Windows(self.net, kind)
        if self.ranks.count > 1:
            self._share_work()
        for net in (self.net, *self.test_nets) if self.param.compile else ():
            net.compile(mode=self.param.compile)
        learned = [param.blob for param in self.params if param.lr_mult]
        self.precision = Precision(self.param.precision, self.device, learned)
        self.run = self.ranks.wrap(self.net)  # as self.net, with the gradients of all processes
        self.note("solver.cpp:57", "Solver scaffolding done.")

    def _share_work(self) -> None:
        self.ranks.split(self.net)
        for net in self.test_nets:
            if not resume.recurrent(net):  # those hand a state from batch to batch
                self.ranks.deal(net)
        count, sizes = self.ranks.count, {loader.batch_size for loader in loaders(self.net)}
        batches = "".join(f", {n * count} images a batch ({n} each)" for n in sorted(sizes))
        self.note("parallel.cpp", f"{count} processes{batches}; base_lr stays as written", shown=True)

    def note(self, where: str, text: str, shown: bool = False, severity: str = "I") -> None:
        """Tells the listeners a line in Caffe's words."""
        self._emit(Note(where, text, shown, severity))

    def debug(self, net: Net, on: bool) -> None:
        """Whether a net tells of its blobs: debug_info."""
        if isinstance(net, DebugNet):
            net.say = self._said if on else None

    def _said(self, where: str, text: str, severity: str) -> None:
        self.note(where, text, severity=severity)

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def solve(self) -> bool:
        """Trains from the current iteration to max_iter, with the tests, displays and snapshots asked for.

        Returns False if a request stopped it early. Raises FloatingPointError for a loss or blob that is not
        finite, OSError where the snapshots cannot be written, or another process writes them.
        """
        snapshots = self.ranks.rank == 0 and (self.param.snapshot_after_train or self.param.snapshot)
        with prefix.alone(self.param.snapshot_prefix) if snapshots else nullcontext():
            return self._solve()

    def _solve(self) -> bool:
        self.note("solver.cpp:289", f"Solving {self.net.name}")
        self.note("solver.cpp:290", f"Learning Rate Policy: {self.param.lr_policy}")
        self._started = self._displayed = time.monotonic()
        self._emit(Started(self.iter, self.param.max_iter))
        try:
            self.step(self.param.max_iter - self.iter)
            self._finish()
        finally:
            self._tell_bad_images(at_end=True)
            self._emit(Finished(self.iter))
        return not self.stopped

    def _tell_bad_images(self, at_end: bool = False) -> None:
        """Notes images that the loaders met and went on without; at the end how many of this process."""
        for bad in self.bad_images:
            for line in [*bad.news(), *([bad.summary()] if at_end and bad.counts else [])]:
                self.note("bad_images.py", line, shown=True, severity="W")

    def _finish(self) -> None:
        """Caffe's end of a run: the last snapshot; if it was not stopped, one more forward and test."""
        if self.param.snapshot_after_train and not due(self.iter, self.param.snapshot):
            self.snapshot()
        if self.stopped:
            self.note("solver.cpp:322", "Optimization stopped early.", shown=True)
            return
        if due(self.iter, self.param.display):
            with torch.no_grad():
                self.forward({})
                self.losses.append(float(self.net.loss()))
            self.note("solver.cpp:327", f"Iteration {self.iter}, loss = {self.smoothed_loss:g}")
        if due(self.iter, self.param.test_interval):
            self.test_all()
        self.note("solver.cpp:332", "Optimization Done.", shown=True)

    def step(self, iterations: int, feed: Feed | None = None) -> None:
        """Does `iterations` iterations, fewer if a request stops them.

        feed: blobs that take the place of the train net's data layers or fill its Input layers: a mapping of
        name to tensor for all passes, or an iterable with one such mapping a pass (iter_size an iteration).
        """
        feeds, end, self.stopped = each_pass(feed), self.iter + iterations, False
        while self.iter < end:
            torch.manual_seed(seed_of(self.seed, self.iter, self.ranks.rank))
            if due(self.iter, self.param.test_interval) and (self.iter or self.param.test_initialization):
                self.test_all()
                if self.stopped:
                    return
            self._iterate(feeds)
            if due(self.iter, self.param.snapshot):
                self.snapshot()
            self._take_requests()
            if self.stopped:
                return

    def _iterate(self, feeds: Iterable[Mapping[str, Tensor]]) -> None:
        """Forward and backward iter_size times, display, update."""
        rate, step = lr_policy.rate(self.param, self.iter, self.current_step)
        displayed = due(self.iter, self.param.display)
        self.debug(self.net, self.param.debug_info and displayed)
        outputs, images = self._accumulate(feeds, rate)
        self._emit(Stepped(self.iter, self.smoothed_loss, images))
        if displayed:
            self._display(rate, outputs)
        if self.param.lr_policy == "multistep" and step != self.current_step:
            self.note("sgd_solver.cpp:51", f"MultiStep Status: Iteration {self.iter}, step = {step}")
        if displayed:
            self.note("sgd_solver.cpp:112", f"Iteration {self.iter}, lr = {rate:g}")
        self.current_step = step
        if not self.precision.update(lambda: self.update(self.params, rate)):
            self.note("solver.py", f"Iteration {self.iter}, no update: gradients overflowed float16", True)
        self.iter += 1
        self._tell_bad_images()

    def _accumulate(self, feeds, rate: float) -> tuple[Mapping[str, Tensor], int]:
        """Leaves the summed diffs in the blobs; returns the last pass's outputs and the number of images."""
        self.clear_diffs()
        total, images = 0.0, 0
        for _ in self.ranks.passes(self.run, self.param.iter_size):
            feed = next(feeds)
            if self.windows:
                outputs = self.windows.run(self, feed, rate)
            else:
                outputs = self.forward(feed)
                self.backward()
            total += self._loss
            images += next((len(blob) for blob in self.net.blobs.values() if blob.dim()), 0)
        self.losses.append(total / self.param.iter_size)
        images *= self.ranks.count
        self._since = (self._since[0] + 1, self._since[1] + images)
        return outputs, images

    def clear_diffs(self) -> None:
        for param in self.params:
            param.blob.grad = None

    def forward(self, feed: Mapping[str, Tensor], net=None) -> Mapping[str, Tensor]:
        """The outputs of `net`, by default the train net; `feed` takes the place of what its sources make."""
        on_device = {name: torch.as_tensor(blob, device=self.device) for name, blob in feed.items()}
        with self.precision.autocast():
            return (self.run if net is None else net)(**on_device)

    def backward(self, inputs: list[Tensor] | None = None) -> None:
        """Adds the train net's diffs, to `inputs` alone if given.

        Raises FloatingPointError for a loss that is not finite.
        """
        loss = self.net.loss()
        (self._loss,) = self.ranks.mean([loss.item()])
        if not math.isfinite(self._loss):
            raise FloatingPointError(
                f"the loss is {self._loss:g} at iteration {self.iter}: stopped before the update; "
                f"{self.last_good()}"
            )
        if loss.requires_grad:
            self.precision.scaled(loss).backward(inputs=inputs)
        if isinstance(self.net, DebugNet):
            self.net.say_backward()

    def _display(self, rate: float, outputs: Mapping[str, Tensor]) -> None:
        now = time.monotonic()
        (iterations, images), lapse = self._since, now - self._displayed
        self._emit(
            Displayed(
                iter=self.iter,
                loss=self.smoothed_loss,
                lr=rate,
                outputs=self._mean(outputs_of(self.net, outputs)),
                seconds=now - self._started,
                lapse=lapse,
                iterations=iterations,
                images_per_second=images / (lapse or 1),
                every=self.param.display,
            )
        )
        self._since, self._displayed = (0, 0), now

    def _mean(self, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        values = self.ranks.mean([output.value for output in outputs])
        return tuple(Output(o.name, v, o.weight) for o, v in zip(outputs, values, strict=True))

    def update(self, some: list[params.Param], rate: float) -> None:
        """Moves `some` of the parameters by their diffs; with `leaves_moves` these become the moves."""
        limit = self.param.clip_gradients
        clipped = sgd.clip(some, limit) if limit >= 0 else None
        if clipped:
            self.note(
                "sgd_solver.cpp:93",
                f"Gradient clipping: scaling down gradients (L2 norm {clipped[0]:g} > {limit:g}) "
                f"by scale factor {clipped[1]:g}",
            )
        groups = params.group(some)
        moves = sgd.moves(groups, self.rule, self.param, rate, self.iter) if self.leaves_moves else []
        sgd.apply(groups, self.rule, self.param, rate, self.iter)
        for param, move in moves:
            if param.blob.grad is None:
                param.blob.grad = move
            else:
                param.blob.grad.copy_(move)  # its memory may be an array of the caller's

    @property
    def smoothed_loss(self) -> float:
        """Mean loss of the last average_loss iterations; nan before the first."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def test_all(self) -> list[tuple[Output, ...]]:
        """Runs every test net over its test_iter batches; the means of their outputs, one tuple a net."""
        results = []
        self.ranks.copy_statistics(self.net)
        for k in range(len(self.test_nets)):
            if self.stopped:
                break
            results.append(self.test(k))
        return results

    @torch.no_grad()
    def test(self, k: int = 0, feed: Feed | None = None) -> tuple[Output, ...]:
        """Mean outputs of test net `k`; an empty tuple if a request to stop came in between."""
        self._emit(Scoring(self.iter, k))
        net, batches = self.test_nets[k], self.param.test_iter[k]
        if not self.shares_at_once:
            net.share_weights(self.net)
        feeds = each_pass(feed)
        scores = Scores(net, batches, self.ranks, dealt=not resume.recurrent(net))
        for batch in scores.turns():
            self._take_requests()
            if self.stopped:
                self.note("solver.cpp:395", "Test interrupted.")
                return ()
            if batch is not None:
                scores.add(batch, self.forward(next(feeds), net))
        loss, means = scores.means()
        seconds = time.monotonic() - self._started
        self._emit(Scored(self.iter, k, means, loss if self.param.test_compute_loss else None, seconds))
        return means

    def _take_requests(self) -> None:
        """Acts on everything asked for, of any process, since the last call."""
        while request := self.ranks.agree(self.requests()):
            if request == "snapshot":
                self.snapshot()
            elif request == "stop":
                self.stopped = True

    def snapshot(self) -> str:
        """Writes <prefix>_iter_<iter>.caffemodel, .solverstate and .resume.json; the solverstate's path.

        Of several processes rank 0 writes.
        """
        self.last_snapshot = snapshot.save(self)
        return self.last_snapshot

    def restore(self, path: str | os.PathLike) -> None:
        """Continues from a .solverstate, ours or Caffe's; ValueError or OSError if it is not this net's."""
        self.note("solver.cpp", f"Restoring previous solver status from {path}")
        self.last_snapshot = snapshot.restore(self, os.fspath(path))

    def restore_latest(self) -> None:
        """Continues from the newest snapshot of snapshot_prefix that is whole; from the start without any.

        Raises the newest one's ValueError or OSError if there are some and none can be used.
        """
        first = None
        own, others = snapshot.newest_first(self.param.snapshot_prefix)
        if others:
            text = f"{others[0]} is not of the run that wrote last: left alone"
            self.note("snapshot.py", text, shown=True, severity="W")
        for path in own:
            try:
                return self.restore(path)
            except (ValueError, OSError) as error:
                self.note("snapshot.py", f"{error}: trying the one before", shown=True, severity="W")
                first = first or error
        if first:
            raise first
        self.note(
            "snapshot.py", f"no snapshot {self.param.snapshot_prefix}_iter_*: from the start", shown=True
        )

    def last_good(self) -> str:
        """Where to go back to after a failure, as half a sentence."""
        if self.last_snapshot is None:
            return "there is no snapshot to go back to"
        return f"the last good snapshot is {self.last_snapshot}"
