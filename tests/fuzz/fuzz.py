"""Gives the targets bytes that libFuzzer makes up to reach new lines of code (atheris); prints a table.

  python tests/fuzz/fuzz.py                       every target, a minute each, one a core
  python tests/fuzz/fuzz.py weights --seconds 3600
  python tests/fuzz/fuzz.py --write               and the table into README.md beside this file

An input that ends in another error than ValueError or OSError is kept in build/fuzz/crash-*; exit code 1.
"""

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/fuzz"
README = Path(__file__).with_name("README.md")
LONGEST = 4096  # bytes of an input, or what the longest whole file has


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*", help="default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--write", action="store_true", help="the table into tests/fuzz/README.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return fuzz(arguments.target[0], arguments.seconds)
    names = list(targets())
    if unknown := set(arguments.target) - set(names):
        parser.error(f"no target {unknown.pop()!r}; there are {', '.join(names)}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(partial(run, seconds=arguments.seconds), arguments.target or names))
    lines = ["| target | executions | other errors | lines reached | seconds |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    total, crashes = (sum(int(row[i].replace(",", "")) for row in rows) for i in (1, 2))
    lines.append(f"| all | {total:,} | {crashes} | | |")
    print("\n".join(lines))
    if arguments.write:
        README.write_text(readme("\n".join(lines)))
    return bool(crashes)


def targets() -> dict:
    sys.path.insert(0, str(ROOT))
    from tests.fuzz.targets import seeds

    return {target.__name__: (target, whole) for target, whole in seeds().items()}


def run(name: str, seconds: int) -> list[str]:
    """A row of the table: one target in a process of its own, which libFuzzer ends."""
    started = time.monotonic()
    command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    said = done.stderr + done.stdout
    counts = [int(n) for n in re.findall(r"^#(\d+)", said, re.MULTILINE)]
    reached = re.findall(r"cov: (\d+)", said)
    if done.returncode:
        print(said[-3000:], file=sys.stderr)
    executions = f"{max(counts, default=0):,}"
    return [name, executions, str(int(done.returncode != 0)), reached[-1] if reached else "0",
            f"{time.monotonic() - started:.0f}"]  # fmt: skip


def fuzz(name: str, seconds: int) -> int:
    import atheris

    readers = ["crnn.proto", "crnn.data", "crnn.data_tools", "crnn.net.weights", "crnn.solver.snapshot"]
    with atheris.instrument_imports(include=readers):
        target, whole = targets()[name]
    from tests.fuzz.targets import REFUSALS

    def one(data: bytes) -> None:
        with contextlib.suppress(*REFUSALS):
            target(data)

    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(whole):
        (corpus / f"whole-{i}").write_bytes(content)
    longest = max(LONGEST, *map(len, whole))
    flags = [f"-max_total_time={seconds}", f"-max_len={longest}", "-seed=1", f"-artifact_prefix={BUILD}/"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()
    return 0


def readme(rows: str) -> str:
    return f"""# Hostile bytes

`make fuzz` gives every reader of files (`targets.py`) bytes that atheris makes up, starting from whole files
and led by the lines of crnn that they reach; `make test` tries some hundred of each (`test_targets.py`).
Anything but a ValueError or an OSError is an error. {platform.machine()}, Python {platform.python_version()}:

{rows}
"""


if __name__ == "__main__":
    sys.exit(main())
