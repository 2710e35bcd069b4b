"""The recurrence, and what its nets need beside it, as torch operators. Needs torch alone."""

from .backend import backends, use_backend
from .lrn import lrn
from .plan import ORDERS, Direction, LineBreak, plan
from .scan import scan, scan_states
from .spatial import spatial_rnn
from .update import update

__all__ = [
    "ORDERS",
    "Direction",
    "LineBreak",
    "backends",
    "lrn",
    "plan",
    "scan",
    "scan_states",
    "spatial_rnn",
    "update",
    "use_backend",
]
