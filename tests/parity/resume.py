"""Trains in the real Caffe from where it is told, for the Python 3.9 of `make oracle`.

python resume.py solver.prototxt golden.npz FIRST LAST OUT.npz [STATE]

Feeds iterations FIRST .. LAST-1 of the golden and stores param/<k>/<layer>/<i> after each, then snapshots. It
starts from STATE if given, else from the golden's init/<layer>/<i>.
"""

import os
import sys

os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 (glog's own spelling)

import caffe
import numpy as np


def main(text, golden, first, last, out, state=None):
    golden = dict(np.load(golden))
    solver = caffe.get_solver(text)
    if state:
        solver.restore(state)
    else:
        for name in solver.net.params:
            for i, blob in enumerate(solver.net.params[name]):
                if f"init/{name}/{i}" in golden:
                    blob.data[...] = golden[f"init/{name}/{i}"]
    found = {"iter": np.array(solver.iter)}
    for k in range(int(first), int(last)):
        for name in ("data", "label"):
            solver.net.blobs[name].data[...] = golden[f"in/{name}"][k]
        solver.step(1)
        for name in solver.net.params:
            for i, blob in enumerate(solver.net.params[name]):
                found[f"param/{k + 1}/{name}/{i}"] = blob.data.copy()
    solver.snapshot()
    np.savez(out, **found)


main(*sys.argv[1:])
