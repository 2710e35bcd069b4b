"""The recurrence as torch operators. Needs torch alone; may be copied out of the package."""

from .backend import backends, use_backend
from .plan import ORDERS, Direction, LineBreak, plan
from .scan import scan, scan_states
from .spatial import spatial_rnn

__all__ = [
    "ORDERS",
    "Direction",
    "LineBreak",
    "backends",
    "plan",
    "scan",
    "scan_states",
    "spatial_rnn",
    "use_backend",
]
