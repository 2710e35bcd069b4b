"""A script for pycaffe, the real one or ours: `script.py OUT.npz` writes what it sees (test_oracle.py)."""

import sys

import caffe
import numpy as np

NET = """
name: "n"  force_backward: %s
input: "data" input_shape { dim: 4 dim: 3 dim: 9 dim: 9 }  input: "label" input_shape { dim: 4 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "prelu" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "elu" type: "ELU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "flat" type: "Flatten" bottom: "pool1" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "sig" type: "Sigmoid" bottom: "ip" top: "sig" }
layer { name: "sum" type: "Eltwise" bottom: "ip" bottom: "sig" top: "sum" }
layer { name: "acc" type: "Accuracy" bottom: "sum" bottom: "label" top: "acc" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" loss_weight: 2 }
layer { name: "red" type: "Reduction" bottom: "sig" top: "red" loss_weight: 0.5
  reduction_param { axis: 0 operation: SUMSQ } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.05 weight_decay: 0.01 momentum: 0.9 lr_policy: "step" gamma: 0.5 stepsize: 2
max_iter: 4 display: 0 test_iter: 2 test_interval: 2 test_initialization: false
snapshot_prefix: "snap" snapshot_after_train: false type: "%s" %s
"""
random = np.random.RandomState(7)
IMAGES, LABELS = random.uniform(-1, 1, (4, 3, 9, 9)), random.randint(0, 5, 4)
seen = {}


def file(text, name):
    with open(name, "w") as out:
        out.write(text)
    return name


def fill(net):
    draw = np.random.RandomState(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = draw.uniform(-0.3, 0.3, blob.data.shape)


def feed(net, images, labels):
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images, labels


def see(what, net, diffs=True):
    """Everything that the net shows."""
    words = [list(net.blobs), list(net._layer_names), [layer.type for layer in net.layers]]
    words += [list(net.inputs), list(net.outputs), dict(net.top_names), dict(net.bottom_names)]
    seen[what + "/words"] = np.array(str(words))
    for name, blob in net.blobs.items():
        seen[f"{what}/{name}"] = blob.data.copy()
        if diffs:
            seen[f"{what}/d{name}"] = blob.diff.copy()
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            seen[f"{what}/{name}/{i}"] = blob.data.copy()
            seen[f"{what}/d{name}/{i}"] = blob.diff.copy()


def walk(what, force, phase):
    net = caffe.Net(file(NET % force, "net.prototxt"), phase)
    fill(net)
    see(what + "made", net)
    feed(net, IMAGES, LABELS)
    net.forward()
    net.backward()
    see(what + "run", net)
    net.backward()
    net.blobs["loss"].diff[...] = 4
    net.backward()
    see(what + "diffs add up", net)
    net.clear_param_diffs()
    net.blobs["pool1"].data[...] = 0.25
    out = net.forward(start="flat", end="sig", blobs=["conv1"])
    net.backward(start="sig", end="conv1")
    see(what + "parts, outputs " + str(sorted(out)), net)
    net.blobs["data"].reshape(2, 3, 9, 9)
    net.blobs["label"].reshape(2)
    net.reshape()
    see(what + "reshaped", net, diffs=False)
    feed(net, IMAGES[:2], LABELS[:2])
    net.forward()
    see(what + "smaller", net, diffs=False)
    other = caffe.Net("net.prototxt", phase)
    other.share_with(net)
    net.params["ip"][1].data[...] = 0.9
    feed(other, IMAGES, LABELS)
    other.forward()
    other.backward()
    see(what + "shared", other)
    see(what + "sharer", net, diffs=False)


def train(what, kind, fields):
    file(NET % "false", "net.prototxt")
    solver = caffe.get_solver(file(SOLVER % (kind, fields), "solver.prototxt"))
    fill(solver.net)
    for net in (solver.net, solver.test_nets[0]):
        feed(net, IMAGES, LABELS)
    solver.step(1)
    see(what + "1", solver.net)
    solver.step(2)
    see(what + "3", solver.net)
    solver.test_nets[0].forward(start="pool1")
    see(what + "test", solver.test_nets[0])
    solver.net.params["ip"][1].diff[...] = 1
    solver.apply_update()
    see(what + "applied", solver.net)
    solver.snapshot()
    other = caffe.get_solver("solver.prototxt")
    other.restore("snap_iter_4.solverstate")
    feed(other.net, IMAGES, LABELS)
    other.param.base_lr = 0.5
    other.step(1)
    see(f"{what}restored to {other.iter} as {type(other).__name__}", other.net)


caffe.set_mode_cpu()
walk("forced ", "true", caffe.TRAIN)
for phase in (caffe.TRAIN, caffe.TEST):
    walk(f"phase {phase} ", "false", phase)
train("SGD ", "SGD", "")
train("clipped ", "SGD", "iter_size: 2 clip_gradients: 0.5")
train("Nesterov ", "Nesterov", "")
train("Adam ", "Adam", "momentum2: 0.99")
np.savez(sys.argv[1], **seen)
