"""Modules for anybody's torch model."""

from .insert import InsertedRNN, insert_rnn
from .spatial_rnn import SpatialRNN

__all__ = ["InsertedRNN", "SpatialRNN", "insert_rnn"]
