"""crnn data: make Caffe's databases and mean images, and look at them.

    crnn data convert DATASET ...   images to databases; crnn data convert --help lists the data sets
    crnn data mean DB [MEAN]        the mean image of a database (compute_image_mean)
    crnn data info DB ...           what a database holds
    crnn data verify DB ...         whether it is as it was written, and fits to be trained on
    crnn data tree SOURCE ...       label trees, for nets that say a label a level
    crnn data paths DB TREE OUT     the labels of a database as paths of a tree, under the same keys
    crnn data part DB OUT A B       a share of a database, as an LMDB
    crnn data backbone NAME OUT     the weights of a CNN trained on ImageNet

Each is also a program in data_tools/.
"""

import importlib
import pkgutil

from crnn import data_tools
from crnn.tools.flags import normalise

PROGRAMS = {
    "mean": "image_mean",
    "info": "info",
    "verify": "verify",
    "tree": "label_tree",
    "paths": "label_paths",
    "part": "part",
    "backbone": "backbone",
}
BOOLEANS = ("gray", "shuffle", "check-size", "encoded", "keep", "restart", "in-order", "no-decode")


def datasets() -> dict:
    """Every data set's module by its NAME."""
    names = [module.name for module in pkgutil.iter_modules(data_tools.__path__) if module.name[0] != "_"]
    modules = [importlib.import_module(f"crnn.data_tools.{name}") for name in names]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def convert(argv: list[str]) -> int:
    known = datasets()
    if not argv or argv[0] in ("-h", "--help"):
        rows = "\n".join(f"    {name:<15} {known[name].__doc__.splitlines()[0]}" for name in sorted(known))
        print(f"usage: crnn data convert DATASET ...\n\n{rows}\n")
        print("crnn data convert DATASET --help tells more.")
        return 0 if argv else 1
    if argv[0] not in known:
        raise ValueError(f"unknown data set {argv[0]!r}; known: {', '.join(sorted(known))}")
    return known[argv[0]].main(argv[1:])


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if argv else 1
    command, rest = argv[0], normalise(argv[1:], BOOLEANS)
    if command == "convert":
        return convert(rest)
    if command not in PROGRAMS:
        raise ValueError(f"unknown command {command!r}; known: convert, {', '.join(PROGRAMS)}")
    return importlib.import_module(f"crnn.data_tools.{PROGRAMS[command]}").main(rest)
