"""`crnn COMMAND ...` and `python -m crnn COMMAND ...`: finds the command's module in crnn/tools and runs it.

A user's mistake (ValueError, OSError), a run that diverged (FloatingPointError) or too little memory is one
sentence on stderr and exit code 1; CRNN_TRACEBACK=1 shows where it was raised. `crnn --import my_layers
COMMAND ...` first imports a module of the user's, which registers layers of his own.
"""

import ast
import importlib
import os
import pkgutil
import sys

from crnn import __version__, tools


def commands() -> dict[str, str]:
    """Every command with the first line of its module's docstring, read without importing it."""
    found = {}
    for module in pkgutil.iter_modules(tools.__path__):
        path = os.path.join(tools.__path__[0], f"{module.name}.py")
        with open(path, encoding="utf-8") as source:
            tree = ast.parse(source.read())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found


def usage() -> str:
    rows = [f"  {name:<16} {text.split(': ', 1)[-1]}" for name, text in commands().items()]
    head = f"crnn {__version__}: spatial recurrent networks on images, faithful to Caffe"
    return "\n".join(
        [
            head,
            "",
            "usage: crnn [--import MODULE] COMMAND ...",
            "",
            *rows,
            "",
            "crnn COMMAND --help tells more.",
            "--import reads a Python module first, from this folder or PYTHONPATH: layers of your own.",
        ]
    )


def import_modules(argv: list[str]) -> list[str]:
    """Imports the MODULE of every leading `--import MODULE`; returns the rest of the arguments."""
    while argv[0].partition("=")[0] == "--import":
        flag, _, module = argv[0].partition("=")
        name, argv = (module, argv[1:]) if module else ("".join(argv[1:2]), argv[2:])
        if not name or not argv:
            raise ValueError(
                f"{flag} needs a module, and a command after it: crnn --import my_layers train ..."
            )
        if "" not in sys.path:
            sys.path.insert(0, "")  # the current folder, as for `python -m`
        importlib.import_module(name)
    return argv


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 1
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    try:
        argv = import_modules(argv)
    except (ValueError, ImportError) as error:
        print(f"crnn: {error}", file=sys.stderr)
        return 1
    command = argv[0].replace("-", "_")
    if command not in commands():
        print(f"crnn: unknown command {argv[0]!r}; known: {', '.join(commands())}", file=sys.stderr)
        return 1
    try:
        return importlib.import_module(f"crnn.tools.{command}").main(argv[1:])
    except KeyboardInterrupt:
        print(f"crnn {argv[0]}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left (`crnn ... | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, FloatingPointError, MemoryError, RuntimeError) as error:
        if os.environ.get("CRNN_TRACEBACK") or (isinstance(error, RuntimeError) and not ran_out(error)):
            raise
        rank = f" (rank {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        print(f"crnn {argv[0]}{rank}: {said(error)}", file=sys.stderr)
        return 1


def said(error: Exception) -> str:
    """The error in a sentence; what the system says of a file begins with the file."""
    if isinstance(error, OSError) and error.errno and error.filename:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    if ran_out(error):
        return f"out of memory: {error}".splitlines()[0].removesuffix(": ")
    return str(error)


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out, of the processor or, in torch's words, of a GPU."""
    said = "allocate memory", "out of memory", "Storage size calculation overflowed"
    torchs = isinstance(error, RuntimeError) and any(text in str(error) for text in said)
    return torchs or isinstance(error, MemoryError)


if __name__ == "__main__":
    sys.exit(main())
