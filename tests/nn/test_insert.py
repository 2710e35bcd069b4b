"""crnn.nn.insert_rnn: bit-equality at the start, and the first gradient of V (Xie 2016, eq. 20)."""

import pytest
import torch
from torch import nn

from crnn.nn import InsertedRNN, insert_rnn
from crnn.testing import assert_near


class BasicBlock(nn.Module):
    """As torchvision's, of ResNet-18."""

    def __init__(self, inputs, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inputs != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-18 of a quarter of the width."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = (16, 16, 32, 64, 128)
        for n in range(1, 5):
            blocks = (
                BasicBlock(widths[n - 1], widths[n], 1 if n == 1 else 2),
                BasicBlock(widths[n], widths[n]),
            )
            setattr(self, f"layer{n}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(128, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Untraceable(nn.Module):
    """Its path depends on the input's values."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x):
        return self.features(x) if x.sum() > 0 else self.features(-x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("where", ["horizontal", "vertical", "both"])
@pytest.mark.parametrize("name", ["layer4.1.conv2", "layer2.0.bn1", "layer1.0.conv1", "conv1"])
def test_a_resnet_gives_the_same_bits(name, where, training):
    torch.manual_seed(0)
    model, x = ResNet().train(training), torch.randn(2, 3, 64, 64)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    want = model(x)
    model.load_state_dict(before)  # batch statistics as before
    assert insert_rnn(model, {name: where}) is model
    assert torch.equal(model(x), want)
    assert isinstance(model.get_submodule(name)[1], InsertedRNN)


def test_the_layers_learn_to_look_around():
    """V moves in the first step of training, and the outputs with it."""
    torch.manual_seed(0)
    model = insert_rnn(ResNet(), {"layer4.1.conv2": "horizontal", "layer2.0.bn1": "both"})
    optimiser, x = torch.optim.SGD(model.parameters(), 0.1), torch.randn(4, 3, 64, 64)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    optimiser.step()
    rnns = [p for n, p in model.named_parameters() if n.endswith("weight_hh")]
    assert [tuple(p.shape) for p in rnns] == [(2, 32, 32), (2, 32, 32), (2, 128, 128)]
    assert all(p.abs().sum() > 0 for p in rnns)


def test_before_a_relu_the_rnn_is_the_papers():
    """relu(z_s + V h_{s-1}) of both directions, their mean; the relu after it changes nothing."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    x = torch.randn(2, 3, 1, 5)
    z = model[0](x)[:, :, 0]
    insert_rnn(model, {"0": "horizontal"})
    assert model[0][1].before_relu
    V = nn.init.normal_(model[0][1].rnns[0].weight_hh, std=0.5).detach()
    want = torch.zeros_like(z)
    for k, order in enumerate((range(5), reversed(range(5)))):
        h = torch.zeros(2, 4)
        for s in order:
            h = torch.relu(z[:, :, s] + h @ V[k].T)
            want[:, :, s] += h / 2
    assert_near(model(x)[:, :, 0], want, 1e-6)


def test_first_gradient_of_v():
    """Eq. 20: dE/dV = sum_s (dE/dh_s where z_s > 0) relu(z_{s-1})^T; half of it for each direction."""
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).double(), torch.randn(2, 3, 4, 5).double()
    z = model[0](x).detach()
    g = torch.randn_like(z)
    insert_rnn(model, {"0": "horizontal"})
    (model(x) * g).sum().backward()
    h, delta = torch.relu(z), g * (z > 0)
    right = torch.einsum("ndhw,nchw->dc", delta[..., 1:], h[..., :-1])
    left = torch.einsum("ndhw,nchw->dc", delta[..., :-1], h[..., 1:])
    assert_near(model[0][1].rnns[0].weight_hh.grad, torch.stack([right, left]) / 2, 1e-13)


def test_elsewhere_the_recurrence_is_added():
    """Where no relu follows, z keeps its negative values and gets what the recurrence adds."""
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.randn(2, 3, 3, 5)
    z = model[0](x)
    insert_rnn(model, {"0": "vertical"})
    inserted = model[0][1]
    assert not inserted.before_relu
    nn.init.normal_(inserted.rnns[0].weight_hh, std=0.5)
    assert_near(inserted(z), z + inserted.rnns[0](z) - torch.relu(z), 1e-6)


def test_functional_relus_and_other_readers_are_told_apart():
    class Model(nn.Module):
        def __init__(self, forward):
            super().__init__()
            self.conv, self.run = nn.Conv2d(2, 2, 1), forward

        def forward(self, x):
            return self.run(self.conv(x))

    readers = {
        lambda z: torch.relu(z) * 2: True,
        lambda z: nn.functional.relu(z): True,
        lambda z: z.relu(): True,
        lambda z: torch.relu(z) + z: False,
        lambda z: z: False,
    }
    for run, wanted in readers.items():
        assert insert_rnn(Model(run), {"conv": "both"}).conv[1].before_relu is wanted


def test_layer_by_layer_is_as_all_at_once():
    def model():
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 1)), nn.ReLU())

    once = insert_rnn(model(), {"0": "both", "2.0": "both"})
    twice = insert_rnn(insert_rnn(model(), {"0": "both"}), {"2.0": "both"})
    for m in (once, twice):
        assert [r.before_relu for r in m.modules() if isinstance(r, InsertedRNN)] == [True, True]


def test_a_model_that_cannot_be_traced():
    model, x = Untraceable(), torch.rand(2, 3, 4, 4)
    want = model(x)
    insert_rnn(model, {"features.0": "both", "features.2": "vertical"})
    assert torch.equal(model(x), want)
    assert [model.features[n][1].before_relu for n in (0, 2)] == [True, False]


def test_the_rnn_has_the_layers_dtype():
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).double()
    insert_rnn(model, {"0": "both"})
    assert model(torch.randn(1, 3, 2, 2).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"layer4.1.conv3": "both"}, "has no module 'layer4.1.conv3'; did you mean 'layer4.1.conv1'|conv2"),
        ({"": "both"}, "has no module ''"),
        ({"conv1": "diagonal"}, "'conv1': unknown 'diagonal'; known: horizontal, vertical, both"),
        ({"maxpool": "both"}, "'maxpool' is a MaxPool2d, which does not say its number of output channels"),
    ],
)
def test_what_it_refuses(layers, message):
    model = ResNet()
    names = [n for n, _ in model.named_modules()]
    with pytest.raises(ValueError, match=message):
        insert_rnn(model, {"conv1": "both", **layers})
    assert [n for n, _ in model.named_modules()] == names  # nothing was changed
