"""What a result was measured on: machine, versions, revision, clocks or load; and the name of its file."""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

import crnn

from .cases import ROOT

#: Where results go; None where crnn is installed without its tree.
RESULTS = ROOT / "benchmarks" / "results" if (ROOT / "setup.py").exists() else None
RESULTS_HELP = "where the JSON goes (default benchmarks/results in a source tree, else none is written)"
CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu"


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def revision() -> str:
    """The short commit of this tree, "-dirty" where it differs from it; "unknown" outside of git."""
    if RESULTS is None:  # a repository around it would be another's
        return "unknown"
    try:
        run = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def state(device: str) -> dict:
    """What may move while it is measured: load of the CPU; clocks, power and temperature of the GPU."""
    found = {"load": round(os.getloadavg()[0], 2)}
    if device == "cuda":
        query = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader"]
        try:
            values = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split(",")
        except FileNotFoundError:
            values = []
        found |= dict(zip(CLOCKS.split(","), map(str.strip, values), strict=False))
    return found


def setup(device: str) -> dict:
    """Versions and machine."""
    found = {
        "device": device,
        "machine": device_name(device),
        "day": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "revision": revision(),
        "crnn": crnn.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    if device == "cuda":
        chip = torch.cuda.get_device_properties(0)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": driver(),
            "capability": list(torch.cuda.get_device_capability()),
            "multiprocessors": chip.multi_processor_count,
            "l2_bytes": chip.L2_cache_size,
        }
    return found


def driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except FileNotFoundError:
        return "unknown"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def free_path(kind: str, setup: dict, folder: Path) -> Path:
    """A file that is not there yet: <kind>_<machine>_<day>_<revision>[_2].json."""
    stem = "_".join([kind, slug(setup["machine"]), setup["day"], setup["revision"]])
    path, count = folder / f"{stem}.json", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}_{count}.json"
    return path


def write(kind: str, result: dict, folder: Path | None) -> None:
    """Writes the result to a new file of the folder, and says where."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = free_path(kind, result["setup"], folder)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten: {path}")
