"""Runs nets in the real Caffe: a server on stdin and stdout, for the Python 3.9 of `make oracle`.

A request is a length and an .npz: `net` (the prototxt), `phase`, `forwards`, and arrays `in/<blob>`,
`param/<layer>/<i>`, `dtop/<blob>`. The answer holds `out/<blob>` of every blob, `din/<blob>` and
`dparam/<layer>/<i>`; without a net it is `types`, the layer types there are. Caffe aborts the process where a
net is wrong: the caller sees the end of the stream.
"""

import io
import os
import struct
import sys
import tempfile

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 (glog's own spelling)

import caffe
import numpy as np


def answer(request):
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(str(request["net"]))
        file.flush()
        net = caffe.Net(file.name, int(request["phase"]))
    given = {kind: {} for kind in ("in", "param", "dtop")}
    for key in request:
        kind, _, name = key.partition("/")
        if name:
            given[kind][name] = request[key]
    for name, value in given["param"].items():
        layer, index = name.rsplit("/", 1)
        put(net.params[layer][int(index)].data, value, name)
    for name, value in given["in"].items():
        put(net.blobs[name].data, value, name)
    for _ in range(int(request["forwards"])):
        net.forward()
    result = {f"out/{name}": blob.data.copy() for name, blob in net.blobs.items()}
    for name, value in given["dtop"].items():
        put(net.blobs[name].diff, value, name)
    if request["backward"]:
        net.backward()
        result.update({f"din/{name}": net.blobs[name].diff.copy() for name in given["in"]})
        for name in given["param"]:
            layer, index = name.rsplit("/", 1)
            result[f"dparam/{name}"] = net.params[layer][int(index)].diff.copy()
    return result


def put(target, value, name):
    if target.shape != value.shape:
        raise ValueError(f"{name} is {target.shape} in Caffe, {value.shape} in crnn")
    target[...] = value


def main():
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever Caffe prints must not reach the answers
    while True:
        head = requests.read(8)
        if len(head) < 8:
            return
        with np.load(io.BytesIO(requests.read(struct.unpack("<Q", head)[0]))) as request:
            try:
                types = {"types": np.array(list(caffe.layer_type_list()))}
                result = answer(dict(request)) if "net" in request else types
            except ValueError as error:
                result = {"error": np.array(str(error))}
        buffer = io.BytesIO()
        np.savez(buffer, **result)
        answers.write(struct.pack("<Q", buffer.tell()) + buffer.getvalue())
        answers.flush()


main()
