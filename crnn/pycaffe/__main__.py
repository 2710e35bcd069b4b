"""`python -m crnn.pycaffe SCRIPT ...` runs a Python script that says `import caffe` on crnn, unchanged."""

import importlib
import os
import runpy
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

USAGE = """usage: python -m crnn.pycaffe SCRIPT [ARGUMENT ...]
       python -m crnn.pycaffe -m MODULE [ARGUMENT ...]     as python -m, say pytest or unittest
       python -m crnn.pycaffe -c CODE [ARGUMENT ...]

In this process, and in no other that it starts, `import caffe` gives crnn.pycaffe.
"""


class Alias(MetaPathFinder, Loader):
    """Finds `caffe` and `caffe.x` as crnn.pycaffe and crnn.pycaffe.x: one module each, under two names."""

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] == "caffe" else None

    def create_module(self, spec):
        name = "crnn.pycaffe" + spec.name.removeprefix("caffe")
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(f"crnn.pycaffe has no {spec.name!r}", name=spec.name) from None
        self.spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.spec  # the import system has put the alias's there


def install() -> None:
    """From now on this process's `import caffe` gives crnn.pycaffe, also where a real Caffe is installed."""
    if not any(isinstance(finder, Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, Alias())


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 1
    how, rest = (argv[0], argv[1:]) if argv[0] in ("-m", "-c") else ("", argv)
    if not rest:
        print(f"crnn.pycaffe: {how} needs a {'module' if how == '-m' else 'text'}", file=sys.stderr)
        return 1
    if not how and not os.path.exists(rest[0]):
        print(f"crnn.pycaffe: there is no script {rest[0]}", file=sys.stderr)
        return 1
    install()
    if not getattr(sys.flags, "safe_path", False):
        # As python does: the script's folder, or this one, is where modules are looked for first.
        sys.path[0] = "" if how else os.path.dirname(os.path.abspath(rest[0]))
    sys.argv = rest if not how else [how, *rest[1:]]
    if how == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(rest[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
