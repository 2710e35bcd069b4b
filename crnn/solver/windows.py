"""window_update: how often, and through which windows, a SpatialRNN layer learns (Zuo 2015, section 3.2.3).

accumulate   every window contributes to one update a batch (the default)
sequential   one update of the layer's blobs a window, over the same batch; all other blobs move with the last
cycle        one window an iteration, in turn

What the layer computes meanwhile: crnn/ops/windows.py and the field future_state.
"""

from collections.abc import Mapping

from torch import Tensor

KINDS = ("accumulate", "sequential", "cycle")


class Windows:
    """The forward and backward passes of a batch when one window learns at a time.

    Raises ValueError unless the net has one SpatialRNN layer, with line_break "carry_value" and as many lines
    in every direction.
    """

    def __init__(self, net, kind: str):
        layers = [layer for layer in net.layers if layer.type == "SpatialRNN"]
        if len(layers) != 1 or layers[0].settings["line_break"] != "carry_value":
            got = ", ".join(f"{layer.name!r} ({layer.settings['line_break']})" for layer in layers) or "none"
            raise ValueError(
                f'window_update: "{kind}" needs a net with one SpatialRNN layer, of line_break '
                f'"carry_value"; it has {got}'
            )
        (self.layer,), self.net, self.kind = layers, net, kind
        self.count = self.layer.count_windows()

    def run(self, solver, feed: Mapping[str, Tensor], rate: float) -> Mapping[str, Tensor]:
        """Leaves the diffs of the last window in the blobs; returns the outputs. Updates between windows."""
        last = self.count - 1 if self.kind == "sequential" else solver.iter % self.count
        own = {id(self.layer.blobs.parameter(i)) for i in range(len(self.layer.blobs))}
        params = [p for p in solver.params if id(p.blob) in own]
        self.layer.open_window(0 if self.kind == "sequential" else last)
        try:
            outputs = solver.forward(feed)
            while self.layer.window.index < last:
                solver.backward([p.blob for p in params if p.lr_mult])
                solver.update(params, rate)
                for param in params:
                    param.blob.grad = None
                self.layer.window.index += 1
                outputs = self.net.rerun(self.layer.name)
            solver.backward()
            return outputs
        finally:
            self.layer.window = None
