"""Caffe's messages and files: prototxt, .caffemodel, .solverstate, .binaryproto. protobuf and numpy only."""

from crnn.proto import messages as pb

__all__ = ["pb"]
