"""AdaGrad, RMSProp, AdaDelta and Adam out of a solver's text (src/caffe/solvers/*_solver.cpp).

In all of them weight decay is already part of the gradient g, and `delta` stands where Caffe has it. The
formulas: crnn/ops/update_reference.py.
"""

from crnn.proto import pb
from crnn.solver.sgd import Uncorrected, register


@register("AdaGrad")
class AdaGrad(Uncorrected):
    """The rate over the root of the sum of g^2."""

    def __init__(self, param: pb.SolverParameter):
        if param.momentum:
            raise ValueError(f"solver type 'AdaGrad' cannot use momentum, got {param.momentum:g}; remove it")
        self.numbers = (param.delta,)


@register("RMSProp")
class RMSProp(Uncorrected):
    """The rate over the root of a running mean of g^2."""

    def __init__(self, param: pb.SolverParameter):
        if param.momentum:
            raise ValueError(f"solver type 'RMSProp' cannot use momentum, got {param.momentum:g}; remove it")
        if not 0 <= param.rms_decay < 1:
            raise ValueError(f"solver type 'RMSProp' needs 0 <= rms_decay < 1, got {param.rms_decay:g}")
        self.numbers = (param.rms_decay, param.delta)


@register("AdaDelta")
class AdaDelta(Uncorrected):
    """The step scaled by the running means of past steps and gradients, which `momentum` keeps."""

    def __init__(self, param: pb.SolverParameter):
        self.numbers = (param.momentum, param.delta)


@register("Adam")
class Adam:
    """Running means of g and g^2. beta1 is `momentum` (0 if not given), beta2 `momentum2`."""

    def __init__(self, param: pb.SolverParameter):
        for field in ("momentum", "momentum2"):
            if not 0 <= getattr(param, field) < 1:
                raise ValueError(f"Adam needs 0 <= {field} < 1, got {getattr(param, field):g}")
        self.numbers = (param.momentum, param.momentum2, param.delta)

    def correction(self, iteration: int) -> float:
        """sqrt(1 - beta2^t) / (1 - beta1^t), t counts from 1."""
        beta1, beta2, _ = self.numbers
        t = iteration + 1
        return (1 - beta2**t) ** 0.5 / (1 - beta1**t)
