"""bench: times the ops against their peers on this machine.

The program benchmarks/run.py of the source tree, with its options; installed, it writes a file only where
--out says.
"""


def main(argv: list[str]) -> int:
    from crnn.benchmarks import run  # slow: torch's profiler and compiler

    return run.main(argv, prog="crnn bench")
