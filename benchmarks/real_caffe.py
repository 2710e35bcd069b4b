"""The real Caffe as a contestant: a net in a process of its own, timed there, in turn with ours."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from .cases import ROOT

ORACLE = ROOT / "build" / "oracle" / "bin" / "python"


class RealCaffe:
    """A net of the real Caffe: `with RealCaffe(...) as caffe: caffe.timer()`.

    prototxt: its text. values: of blobs by name, and of parameters by "layer/index". threads: of its BLAS.

    Raises:
        OSError: the oracle is not built, or Caffe ended its process.
    """

    def __init__(self, prototxt: str, values: Mapping[str, np.ndarray], threads: int):
        if not ORACLE.exists():
            raise OSError(f"no real Caffe at {ORACLE}: `make oracle` builds it (needs a Python 3.9)")
        self.prototxt, self.values, self.threads = prototxt, values, threads

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "net.prototxt").write_text(self.prototxt)
        np.savez(folder / "values.npz", **self.values)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self.process = subprocess.Popen(
            [ORACLE, Path(__file__).with_name("real_caffe_server.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **dict.fromkeys(names, str(self.threads))},
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def ask(self, request: str) -> str:
        try:
            print(request, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise OSError("the real Caffe ended its process: the net is wrong for it")
        return answer

    def timer(self) -> float:
        """Milliseconds of a forward and a backward."""
        return float(self.ask("time"))

    def array(self, kind: str, name: str) -> torch.Tensor:
        """kind "data": a blob of the last forward; "diff": its gradient, or, of "layer/index", a parameter's,
        which Caffe sums over calls."""
        return torch.from_numpy(np.load(self.ask(f"{kind} {name} {self.folder.name}/answer.npy")))
