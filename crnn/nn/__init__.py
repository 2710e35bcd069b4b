"""Modules for anybody's torch model."""

from .spatial_rnn import SpatialRNN

__all__ = ["SpatialRNN"]
