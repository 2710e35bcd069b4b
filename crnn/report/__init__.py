"""A run as one HTML page that needs nothing else: `write(path, Report(...))`."""

from crnn.report.content import Curve, Difference, Layer, Mistake, NetResult, Report
from crnn.report.page import page, write

__all__ = ["Curve", "Difference", "Layer", "Mistake", "NetResult", "Report", "page", "write"]
