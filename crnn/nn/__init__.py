"""Modules for anybody's torch model."""

from .insert import InsertedRNN, insert_rnn
from .scale_rnn import ScaleRNN
from .spatial_rnn import SpatialRNN

__all__ = ["InsertedRNN", "ScaleRNN", "SpatialRNN", "insert_rnn"]
