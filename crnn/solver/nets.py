"""The train net and the test nets that a SolverParameter asks for.

Caffe: Solver::InitTrainNet and InitTestNets in src/caffe/solver.cpp.
"""

from collections.abc import Callable

from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net

Note = Callable[[str, str], None]  # (place in Caffe's source, text)


def train_net(param: pb.SolverParameter, note: Note, net_type: type[Net] = Net) -> Net:
    """The net of the one source among net, net_param, train_net, train_net_param, in train_state."""
    fields = [f for f in ("net", "net_param", "train_net", "train_net_param") if param.HasField(f)]
    if len(fields) != 1:
        got = " and ".join(fields) or "none"
        raise ValueError(f"a solver needs one of net, net_param, train_net, train_net_param; it has {got}")
    source = getattr(param, fields[0])
    is_file = isinstance(source, str)
    told = f"from {fields[0]} file: {source}" if is_file else f"specified in {fields[0]}."
    note("solver.cpp:102", f"Creating training net {told}")
    return _build(source, "TRAIN", param.train_state, net_type)


def test_nets(param: pb.SolverParameter, train: Net, note: Note) -> list[Net]:
    """Nets of the type of `train`: each test_net_param, each test_net, then net or net_param.

    The last is repeated for every test_iter that is left. Raises ValueError where the numbers disagree.
    """
    nets = []
    for i, (field, source) in enumerate(_test_sources(param)):
        told = f"{field} file: {source}" if isinstance(source, str) else field
        note("solver.cpp:190", f"Creating test net (#{i}) specified by {told}")
        state = param.test_state[i] if param.test_state else pb.NetState()
        nets.append(_build(source, "TEST", state, type(train)))
    return nets


def _test_sources(param: pb.SolverParameter) -> list[tuple[str, str | pb.NetParameter]]:
    """The field and its value, a path or NetParameter, for each test net."""
    own = [(field, source) for field in ("test_net_param", "test_net") for source in getattr(param, field)]
    generic = [(field, getattr(param, field)) for field in ("net_param", "net") if param.HasField(field)]
    wanted = len(param.test_iter)
    if any(batches < 1 for batches in param.test_iter):
        raise ValueError(f"every test_iter must be at least 1, got {list(param.test_iter)}")
    if wanted < len(own) or (wanted > len(own) and not generic):
        raise ValueError(f"there are {len(own)} test nets but {wanted} test_iter; give one for each net")
    sources = own + generic * (wanted - len(own))
    if param.test_state and len(param.test_state) != len(sources):
        raise ValueError(f"there are {len(sources)} test nets but {len(param.test_state)} test_state")
    if sources and param.test_interval <= 0:
        raise ValueError("test_iter is given but test_interval is not; say how often to test")
    return sources


def _build(source: str | pb.NetParameter, phase: str, state: pb.NetState, net_type: type[Net]) -> Net:
    document = read_net(source if isinstance(source, str) else dump(source))
    level = state.level if state.HasField("level") else None
    return net_type(document, phase=phase, stages=tuple(state.stage), level=level)
