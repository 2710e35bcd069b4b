"""What users' scripts do with pycaffe, in small: surgery, solver loops, layers that load data."""

import numpy as np
import pytest

import crnn.pycaffe as caffe
from crnn.pycaffe import layers as L

CLASSIFIER = """
input: "data" input_shape { dim: 1 dim: 1 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
FULLY_CONVOLUTIONAL = CLASSIFIER.replace(
    '"fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 }',
    '"fc-conv" type: "Convolution" bottom: "conv" top: "fc" '
    "convolution_param { num_output: 4 kernel_size: 4 }",
)


def test_net_surgery_a_classifier_becomes_fully_convolutional(make_net, tmp_path):
    net = make_net(CLASSIFIER, caffe.TEST)
    net.save(tmp_path / "a.caffemodel")
    dense = make_net(FULLY_CONVOLUTIONAL, caffe.TEST, weights=str(tmp_path / "a.caffemodel"))
    dense.copy_from(tmp_path / "a.caffemodel")  # "fc" is not in this net: ignored
    dense.params["fc-conv"][0].data.flat = net.params["fc"][0].data.flat
    dense.params["fc-conv"][1].data[...] = net.params["fc"][1].data
    image = np.random.RandomState(0).rand(1, 1, 8, 9).astype(np.float32)
    dense.blobs["data"].reshape(*image.shape)
    scores = dense.forward(data=image)["prob"]
    assert scores.shape == (1, 4, 3, 4)
    for y, x in ((0, 0), (1, 2), (2, 3)):
        window = net.forward(data=image[:, :, y : y + 6, x : x + 6])["prob"]
        np.testing.assert_allclose(scores[:, :, y, x], window, rtol=1e-5)


def test_net_surgery_a_filter_is_designed(make_net):
    net = make_net(CLASSIFIER, caffe.TEST)
    net.blobs["data"].data[...] = np.arange(36).reshape(6, 6)
    net.params["conv"][0].data[1:] = 0
    net.params["conv"][0].data[1, 0] = [[-1, 0, 1]] * 3  # columns differ by 1, so each response is 6
    net.params["conv"][1].data[1] = 0.5
    net.forward()
    assert (net.blobs["conv"].data[0, 1] == 6.5).all()


def test_fcn_surgery_weights_are_transplanted_and_upsampling_filled(make_net):
    net = make_net(CLASSIFIER, caffe.TEST)
    wide = make_net(
        CLASSIFIER.replace("num_output: 4", "num_output: 6").replace("dim: 6 dim: 6", "dim: 6 dim: 6 ")
        + 'layer { name: "up" type: "Deconvolution" bottom: "data" top: "up" '
        "convolution_param { num_output: 1 kernel_size: 4 stride: 2 bias_term: false } }",
        caffe.TEST,
    )
    for name in net.params:
        for i, blob in enumerate(net.params[name]):
            if blob.data.shape == wide.params[name][i].data.shape:
                wide.params[name][i].data[...] = blob.data
            else:
                wide.params[name][i].data[: len(blob.data)] = blob.data
    y, x = np.ogrid[:4, :4]
    wide.params["up"][0].data[range(1), range(1)] = (1 - abs(y - 1.5) / 2) * (1 - abs(x - 1.5) / 2)
    image = np.ones((1, 1, 6, 6))
    np.testing.assert_array_equal(
        wide.forward(data=image, blobs=["fc"])["fc"][:, :4], net.forward(data=image, blobs=["fc"])["fc"]
    )
    assert (wide.blobs["up"].data[0, 0, 1:-1, 1:-1][1:-1, 1:-1] == 1).all()


def test_learning_with_a_loop_of_ones_own_on_a_database(logged):
    """The loop of the LeNet notebook: step, look at the loss, test from the first layer with weights on."""
    solver = caffe.SGDSolver(
        logged(test_iter=1, test_interval=1000, test_initialization="false", base_lr=1e-4)
    )
    first = next(name for name in solver.net._layer_names if name in solver.net.params)
    solver.net.forward()
    solver.test_nets[0].forward()
    losses = np.zeros(6)
    for it in range(6):
        solver.step(1)
        losses[it] = solver.net.blobs["loss"].data
        solver.test_nets[0].forward(start=first)
        scores = solver.test_nets[0].blobs[solver.test_nets[0].bottom_names["loss"][0]].data
        assert scores.shape[0] == solver.test_nets[0].blobs["label"].data.shape[0]
    assert np.isfinite(losses).all() and len(set(losses)) == 6
    assert solver.net.params[first][0].diff.any()
    assert solver.iter == 6


class Pictures(caffe.Layer):
    """A data layer as FCN's: another size each time, one picture a batch."""

    def setup(self, bottom, top):
        self.options, self.index = eval(self.param_str), -1
        if len(top) != 2:
            raise Exception("Need two tops: data, label.")

    def reshape(self, bottom, top):
        self.index += 1
        height = self.options["heights"][self.index % len(self.options["heights"])]
        self.data = np.full((3, height, 4), self.index, np.float32)
        top[0].reshape(1, *self.data.shape)
        top[1].reshape(1, 1, height, 4)

    def forward(self, bottom, top):
        top[0].data[...] = self.data
        top[1].data[...] = self.index % 2

    def backward(self, top, propagate_down, bottom):
        pass


class Distance(caffe.Layer):
    """The Euclidean loss of Caffe's examples."""

    def setup(self, bottom, top):
        assert len(bottom) == 2

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if propagate_down[i]:
                bottom[i].diff[...] = (1 if i == 0 else -1) * self.diff / bottom[i].num


@pytest.fixture
def python_net(tmp_path):
    """Pictures -> conv -> Distance: its NetSpec, and the path of its text."""
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module=__name__, layer="Pictures", ntop=2, param_str=str({"heights": [3, 5]}))
    n.score = L.Convolution(n.data, num_output=1, kernel_size=1, weight_filler={"type": "xavier"})
    n.loss = L.Python(n.score, n.label, module=__name__, layer="Distance", loss_weight=1)
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    return str(tmp_path / "net.prototxt")


def test_a_python_data_layer_may_give_every_batch_another_size(python_net):
    net = caffe.Net(python_net, caffe.TRAIN)
    assert net.layers[0].options == {"heights": [3, 5]}  # the user's own object
    for height in (5, 3, 5):
        net.forward()
        assert net.blobs["data"].data.shape == (1, 3, height, 4)
        assert (net.blobs["data"].data == net.layers[0].index).all()
        assert net.blobs["score"].data.shape == (1, 1, height, 4)


class Forwards(caffe.Layer):
    """A loss that knows its gradient in forward."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        bottom[0].diff[...] = bottom[0].data - 1
        top[0].data[...] = (bottom[0].diff ** 2).sum() / 2

    def backward(self, top, propagate_down, bottom):
        pass


def test_a_diff_that_forward_fills_teaches(tmp_path):
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": [2, 3]})
    n.fc = L.InnerProduct(n.x, num_output=3, weight_filler={"type": "constant", "value": 0.2})
    n.loss = L.Python(n.fc, module=__name__, layer="Forwards", loss_weight=1)
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" snapshot_after_train: false'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.net.blobs["x"].data[...] = 1
    losses = []
    for _ in range(3):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data[0]))
    # A step leaves 1 - 0.1 * 2 * (3 weights and a bias) = 0.2 of each score's difference.
    np.testing.assert_allclose(losses, [0.48, 0.48 * 0.04, 0.48 * 0.04**2], rtol=1e-4)


class Waits(caffe.Layer):
    """A source that the script fills."""

    def setup(self, bottom, top):
        top[0].reshape(2, 3)
        top[0].data[...] = 5

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        pass


def test_a_python_layers_tops_are_the_nets_blobs(tmp_path):
    n = caffe.NetSpec()
    n.x = L.Python(module=__name__, layer="Waits")
    n.y = L.Power(n.x, scale=2)
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert (net.forward()["y"] == 10).all()  # what setup filled
    net.blobs["x"].data[...] = 7
    assert (net.forward()["y"] == 14).all()


class Unfinished(caffe.Layer):
    reshape, forward, backwards = Forwards.reshape, Forwards.forward, Forwards.backward


class NoForward(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)


@pytest.mark.parametrize("name", ["Unfinished", "NoForward"])
def test_a_layer_without_forward_or_backward_is_an_error(tmp_path, name):
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": [2, 3]})
    n.loss = L.Python(n.x, module=__name__, layer=name, loss_weight=1)
    (tmp_path / "net.prototxt").write_text("force_backward: true\n" + str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    with pytest.raises(ValueError, match=f"{name} has no (for|back)ward"):
        net.forward()
        net.backward()


def test_a_python_loss_teaches(python_net, tmp_path):
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{python_net}" base_lr: 0.1 lr_policy: "fixed" max_iter: 9 snapshot_after_train: false'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.net.forward()
    solver.net.clear_param_diffs()
    solver.net.backward()
    want = (solver.net.blobs["score"].data - solver.net.blobs["label"].data).sum()
    np.testing.assert_allclose(solver.net.params["score"][1].diff, want, rtol=1e-5)
    before = solver.net.params["score"][1].data.copy()
    solver.step(1)
    np.testing.assert_allclose(
        solver.net.params["score"][1].diff, before - solver.net.params["score"][1].data
    )
    assert solver.net.params["score"][1].diff.any()


def test_dreaming_the_input_follows_the_gradient_of_a_layer(make_net):
    net = make_net("force_backward: true" + CLASSIFIER, caffe.TEST)
    source = net.blobs["data"]
    source.data[0] = np.random.RandomState(0).rand(1, 6, 6)
    before = None
    for _ in range(5):
        net.forward(end="fc")
        target = net.blobs["fc"]
        target.diff[:] = target.data
        net.backward(start="fc")
        norm = (target.data**2).sum()
        assert before is None or norm > before
        before = norm
        source.data[:] += 0.01 * source.diff / np.abs(source.diff).mean()
