"""A run as one HTML page that needs nothing else: `write(path, Report(...))`."""

from crnn.report.content import Curve, Difference, Layer, Mistake, NetResult, Panel, Report, Sight
from crnn.report.page import page, write, write_sights

__all__ = [
    "Curve",
    "Difference",
    "Layer",
    "Mistake",
    "NetResult",
    "Panel",
    "Report",
    "Sight",
    "page",
    "write",
    "write_sights",
]
