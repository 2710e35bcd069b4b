"""Compiles caffe.proto to caffe.desc: `python crnn/proto/compile.py` after each edit (wants grpcio-tools)."""

import os
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent


def descriptor_set() -> bytes:
    """The compiled caffe.proto, a serialized FileDescriptorSet without comments.

    Raises ImportError where grpcio-tools is not installed, ValueError where caffe.proto does not compile.
    """
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "caffe.desc")
        if protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", "caffe.proto"]):
            raise ValueError(f"{FOLDER / 'caffe.proto'} does not compile; protoc's messages stand above")
        return Path(out).read_bytes()


def main() -> int:
    """Writes caffe.desc beside caffe.proto."""
    try:
        (FOLDER / "caffe.desc").write_bytes(descriptor_set())
    except (ImportError, ValueError) as error:
        print(f"compile.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
