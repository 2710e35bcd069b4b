"""Warns of databases on network file systems, whose pages a memory map cannot rely on (lmdb.h, caveats)."""

import functools
import logging
import os
import re

TABLE = "/proc/self/mounts"
#: Types in the table; with fuse., whatever serves files of another machine.
NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
))  # fmt: skip
LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.mergerfs"})


def network_type(path, table: str | None = None) -> str | None:
    """The type of the network file system that holds `path` (there or to be made); None for a local one.

    table: what /proc/self/mounts would say (fstab(5)); by default it is read, and where there is none the
    answer is None.
    """
    if table is None:
        try:
            with open(TABLE, encoding="utf-8", errors="surrogateescape") as file:
                table = file.read()
        except OSError:
            return None
    real, found = os.path.realpath(path), ("", "")
    for line in table.splitlines():
        _device, point, kind, *_ = [*line.split(" "), "", "", ""]
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found[0]):  # of two on one point the later covers the other
            found = point, kind
    kind = found[1]
    over_network = kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)
    return kind if over_network else None


@functools.cache  # a line a folder and process
def warn(path: str, doing: str) -> None:
    """Logs a line where `path` lies on a network file system. doing: "read" or "written"."""
    kind = network_type(path)
    if not kind:
        return
    cure = {
        "read": "copy it to a local disk first: where the server falters, the process ends with SIGBUS",
        "written": "write it on a local disk and copy it: a damaged database may be the result",
    }[doing]
    logging.getLogger("crnn.data").warning("%s is %s over a network (%s); %s", path, doing, kind, cure)
