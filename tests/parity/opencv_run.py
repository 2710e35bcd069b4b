"""Runs nets in OpenCV's Caffe importer, for the Python of `make opencv-oracle`: python opencv_run.py FOLDER

FOLDER holds for each net NAME.prototxt, NAME.caffemodel and NAME.npz, the inputs by blob; NAME.out.npz gets
what the (layer, top) pairs of NAME.npz's `outputs` give, as 0, 1, ..., or `error`, OpenCV's words.
"""

import sys
from pathlib import Path

import cv2
import numpy as np


def run(stem):
    given = dict(np.load(f"{stem}.npz"))
    names = given.pop("outputs").tolist()
    net = cv2.dnn.readNetFromCaffe(f"{stem}.prototxt", f"{stem}.caffemodel")
    for name, blob in given.items():
        net.setInput(blob, name)
    known = net.getLayerNames()  # some by the layer's name, some by its top's
    asked = [layer if layer in known else top for layer, top in names]
    return {str(i): blob for i, blob in enumerate(net.forward(asked))}


print(cv2.__version__)
for path in sorted(Path(sys.argv[1]).glob("*.prototxt")):
    try:
        result = run(path.with_suffix(""))
    except cv2.error as error:
        result = {"error": np.array(str(error).strip())}
    np.savez(path.with_suffix(".out.npz"), **result)
