"""Caffe's solvers: the training loop, learning rates, update rules, snapshots and logs."""
