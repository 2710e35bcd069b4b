"""The other side of real_caffe.py: a net in the real Caffe, under the Python 3.9 of `make oracle`.

  real_caffe_server.py FOLDER

FOLDER holds net.prototxt and values.npz (blobs by name, parameters by layer/index). Each line on stdin is a
request: "time" runs forward and backward and answers their milliseconds; "data NAME FILE" and "diff NAME
FILE" save an array of a blob or of the parameter layer/index.
"""

import os
import sys
import time

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 (glog's own spelling)

import caffe
import numpy as np


def main(folder: str) -> None:
    net = caffe.Net(os.path.join(folder, "net.prototxt"), caffe.TRAIN)

    def blob(name):
        layer, _, index = name.rpartition("/")
        return net.params[layer][int(index)] if layer else net.blobs[name]

    for name, value in np.load(os.path.join(folder, "values.npz")).items():
        blob(name).data[...] = value
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Caffe prints must not reach the answers
    for line in sys.stdin:
        request, *names = line.split()
        if request == "time":
            start = time.perf_counter()
            net.forward()
            net.backward()
            answer = (time.perf_counter() - start) * 1e3
        else:
            name, path = names
            np.save(path, getattr(blob(name), request))
            answer = path
        print(answer, file=answers, flush=True)


main(sys.argv[1])
