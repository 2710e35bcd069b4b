"""Embed and Parameter."""

import pytest
import torch

from crnn.net.net import Net


def embed(text=""):
    return f'type: "Embed" embed_param {{ input_dim: 4 num_output: 3 {text} }}'


def test_embed_looks_rows_up_and_sums_their_gradients(make):
    layer = make(embed('weight_filler { type: "gaussian" }'), (2, 2))
    assert layer.top_shapes == [(2, 2, 3)]
    index = torch.tensor([[3.0, 0], [3, 3]])
    (y,) = layer(index)
    assert y.equal(layer.blobs[0][index.long()])
    y.sum().backward()
    assert layer.blobs[0].grad[:, 0].tolist() == [1, 0, 0, 3] and layer.blobs[1].grad.tolist() == [4, 4, 4]
    assert len(make(embed("bias_term: false"), (2,)).blobs) == 1


def test_an_index_keeps_its_precision_in_a_narrow_net():
    net = Net(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }
        layer { name: "e" type: "Embed" bottom: "x" top: "y"
          embed_param { input_dim: 1000 num_output: 1 } }"""
    ).bfloat16()
    net.layer("e").blobs[0].data[:, 0] = torch.arange(1000)
    assert net(torch.tensor([257.0]))["y"].item() == torch.tensor(257.0).bfloat16()
    with pytest.raises(
        ValueError, match=r"layer 'e' \(Embed\): index 1000 is not one of the 1000 rows 0 to 999"
    ):
        net(torch.tensor([1000.0]))


def test_embed_needs_its_sizes(make):
    with pytest.raises(ValueError, match="num_output and input_dim must be at least 1"):
        make('type: "Embed" embed_param { num_output: 3 }', (2,))


def test_a_parameter_is_a_top_that_learns():
    net = Net(
        """layer { name: "p" type: "Parameter" top: "p" param { name: "shared" lr_mult: 2 }
          parameter_param { shape { dim: 2 dim: 3 } } }
        layer { name: "l" type: "Reduction" bottom: "p" top: "l" loss_weight: 3 }"""
    )
    net()
    net.loss().backward()
    assert net.layer("p").blobs[0].grad.tolist() == [[3, 3, 3]] * 2
    assert [(p.name, p.lr_mult) for p in net.params] == [("shared", 2)]
