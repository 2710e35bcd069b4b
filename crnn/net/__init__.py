"""Nets out of prototxt: the graph, the module, its weights."""
