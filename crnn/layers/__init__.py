"""Caffe's layers as torch modules, found by type. All modules of this folder are read and register theirs."""

from importlib import import_module
from pkgutil import iter_modules

from .base import TYPES, Layer, Shape, build, find, register

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["TYPES", "Layer", "Shape", "build", "find", "register"]
