"""AlexNet and C-RNN in plain torch, as somebody writes them without us: the peers of train.py."""

import torch
from torch import nn

from crnn.testing import FOUR, ScanCase

from .gate import plain_spatial
from .peers import batched


class PlainRNN(nn.Module):
    """C-RNN's layer on pool5 as a loop with one batched product of all directions a step."""

    def __init__(self, channels: int, batch: int, device: str):
        super().__init__()
        self.case = ScanCase("relu", "carry_value", FOUR, batch, 6, 6, channels)
        self.weight_ih = nn.Parameter(torch.empty(4, channels, channels))
        self.bias = nn.Parameter(torch.empty(4, channels))
        self.weight_hh = nn.Parameter(torch.empty(4, channels, channels))
        self.loop = batched(self.case, device)

    def forward(self, x):
        return plain_spatial(self.loop, self.case, x, self.weight_ih, self.bias, self.weight_hh)


def build(net: str, batch: int, device: str) -> nn.Sequential:
    """ "alexnet" or "crnn" with bvlc_alexnet's shapes: [N, 3, 227, 227] -> logits [N, 1000].

    With "-no-lrn" at its end, without normalisation. Its parameters stand in the order of our net's blobs.
    """

    def pool():
        return nn.MaxPool2d(3, 2)

    def norm():
        return (
            nn.Identity() if net.endswith("-no-lrn") else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        )

    layers = [nn.Conv2d(3, 96, 11, 4), nn.ReLU(True), norm(), pool()]
    layers += [nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(True), norm(), pool()]
    layers += [nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(True)]
    layers += [nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(True)]
    layers += [nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(True), pool()]
    if net.startswith("crnn"):
        layers += [PlainRNN(256, batch, device), nn.Dropout(0.5)]
    layers += [nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(True), nn.Dropout(0.5)]
    layers += [nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers).to(device)


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """Caffe's rates of AlexNet: biases learn twice as fast and do not decay."""
    biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
    weights = [p for name, p in net.named_parameters() if not name.endswith("bias")]
    settings = [{"params": weights, "weight_decay": 5e-4}, {"params": biases, "lr": 0.02}]
    return torch.optim.SGD(settings, lr=0.01, momentum=0.9)
