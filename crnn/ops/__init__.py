"""The recurrence, and what its nets need beside it, as torch operators. Needs torch alone."""

from .backend import backends, use_backend
from .inner_product import inner_product
from .lrn import lrn
from .plan import ORDERS, Direction, LineBreak, plan
from .scan import scan, scan_states
from .spatial import spatial_rnn
from .spatial_scan import spatial_scan
from .transposed import transposed
from .update import update

__all__ = [
    "ORDERS",
    "Direction",
    "LineBreak",
    "backends",
    "inner_product",
    "lrn",
    "plan",
    "scan",
    "scan_states",
    "spatial_rnn",
    "spatial_scan",
    "transposed",
    "update",
    "use_backend",
]
