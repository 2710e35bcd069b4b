"""The test of a net over some batches: the mean of each output, whichever process ran which batch."""

from collections.abc import Iterator

from crnn.net.net import Net
from crnn.solver.events import Output, outputs_of
from crnn.solver.ranks import Ranks, loaders


class Scores:
    """What a test net gives for each of `batches` batches.

    dealt: whether the processes run different ones; else each runs all.
    """

    def __init__(self, net: Net, batches: int, ranks: Ranks, dealt: bool):
        self.net, self.batches, self.ranks = net, batches, ranks
        self.dealt = dealt and ranks.count > 1
        self.starts = [loader.position for loader in loaders(net)]
        self.rows: dict[int, list[float]] = {}
        self.outputs: tuple[Output, ...] = ()

    def turns(self) -> Iterator[int | None]:
        """The batch to run in each turn; as many turns in every process, None where it has no batch left."""
        at_once, first = (self.ranks.count, self.ranks.rank) if self.dealt else (1, 0)
        for turn in range(0, self.batches, at_once):
            yield turn + first if turn + first < self.batches else None

    def add(self, batch: int, blobs) -> None:
        """Keeps the outputs and the loss of the net's last forward."""
        self.outputs = outputs_of(self.net, blobs)
        loss = float(self.net.loss()) if self.net.loss_weights else 0.0
        self.rows[batch] = [loss, *(output.value for output in self.outputs)]

    def means(self) -> tuple[float, tuple[Output, ...]]:
        """The mean loss and the mean of each output, summed in the order of the batches.

        The data go on after the last batch. Without a batch of its own a process has no outputs.
        """
        rows = self.ranks.gather_rows(self.rows, self.batches) if self.dealt else list(self.rows.values())
        if self.dealt:
            self._go_on()
        loss, sums = 0.0, [0.0] * len(self.outputs)
        for mean, *values in rows:
            loss += mean / self.batches
            sums = [s + v for s, v in zip(sums, values, strict=False)]
        means = zip(self.outputs, sums, strict=True)
        return loss, tuple(Output(o.name, s / self.batches, o.weight) for o, s in means)

    def _go_on(self) -> None:
        for loader, start in zip(loaders(self.net), self.starts, strict=True):
            end = start + self.batches * loader.batch_size
            if loader.position != end:  # some processes had a batch more than others
                loader.seek(end)
