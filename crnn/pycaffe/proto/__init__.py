"""caffe.proto: the place where scripts look for caffe_pb2."""

from . import caffe_pb2

__all__ = ["caffe_pb2"]
