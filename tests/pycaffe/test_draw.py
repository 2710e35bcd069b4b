"""Pictures of nets."""

import shutil

import pytest
from google.protobuf import text_format

import crnn.pycaffe as caffe
from crnn.proto import pb

NET = text_format.Parse(
    """name: 'a "net"'
    layer { name: "data" type: "Data" top: "data" data_param { batch_size: 4 } include { phase: TRAIN } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 2 }
      convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
      pooling_param { pool: AVE kernel_size: 2 } }""",
    pb.NetParameter(),
)


def text(**options):
    return caffe.draw.draw_net(NET, "LR", "dot", **options).decode()


def test_layers_are_boxes_that_say_what_they_are_set_to():
    drawn = text()
    assert drawn.startswith('digraph "a \\"net\\"" {')
    assert r'label="conv\n(Convolution)\nkernel size: 3\nstride: 1\npad: 1", shape=box' in drawn
    assert r'label="pool\n(Pooling AVE)\nkernel size: 2' in drawn
    assert '"blob data" -> "layer 1 conv"' in drawn
    assert '"layer 0 data" -> "blob data" [label="Batch 4"]' in drawn
    assert '"layer 1 conv" -> "blob conv" [label="8"]' in drawn


def test_a_phase_leaves_out_the_layers_of_the_other():
    assert "layer 0 data" in text(phase=caffe.TRAIN)
    assert "layer 0 data" not in text(phase=caffe.TEST)


def test_rates_are_drawn_on_demand():
    assert "lr mult" not in text()
    assert "lr mult: 2.0, 1.0" in text(display_lrm=True)


def test_a_file_gets_the_format_of_its_name(tmp_path):
    caffe.draw.draw_net_to_file(NET, str(tmp_path / "net.dot"), "TB")
    assert 'rankdir="TB"' in (tmp_path / "net.dot").read_text()


@pytest.mark.skipif(shutil.which("dot") is None, reason="runs on a machine with graphviz")
def test_graphviz_draws_the_image():
    assert caffe.draw.draw_net(NET, "LR").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="graphviz cannot draw nonsense"):
        caffe.draw.draw_net(NET, "LR", "nonsense")


def test_an_image_without_graphviz_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="not installed; install graphviz, or ask for the text"):
        caffe.draw.draw_net(NET, "LR")
