"""The CPU's kernels by the instructions of processors that are not here, in an emulated machine.

    python tests/cpu/bochs/emulate.py --bochs FOLDER [--write README.md]        (make emulate BOCHS=FOLDER)

Bochs boots a Linux of which guest.cpp, linked with the extension's own objects, is the only program; the
errors that it prints become a table. FOLDER is the source of Bochs, 3.0 or later, after

    patch -p1 < tests/cpu/bochs/bochs.patch
    ./configure --enable-x86-64 --enable-avx --enable-evex --enable-amx --with-nogui
    make

The patch lets Bochs' Skylake-X have AMX, announces what Linux wants before it gives tiles to a program (XFD),
and keeps all rows of a tile over a change of task. Also needed: `python setup.py build_ext --inplace`, g++,
cpio, xorriso, root (for mknod), and Debian's apt-get, which downloads a kernel and a boot loader, no more.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build" / "bochs"
LIMIT = 3600  # seconds: some minutes on a machine that does nothing else
PACKAGES = ("linux-image-cloud-amd64", "isolinux", "syslinux-common")
CONFIGURATION = """\
cpu: model=corei7_skylake_x, add_features="amx,amx_bf16,amx_int8", ips=100000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file={bochs}/bios/BIOS-bochs-latest
vgaromimage: file={bochs}/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin
ata0-master: type=cdrom, path={image}, status=inserted
boot: cdrom
display_library: nogui
com1: enabled=1, mode=file, dev={serial}
clock: sync=none
log: {log}
panic: action=fatal
"""
MENU = """\
default guest
label guest
  kernel /vmlinuz
  initrd /initrd.gz
  append console=ttyS0 nokaslr mitigations=off acpi=off nowatchdog panic=-1 quiet
"""


def run(*command, **options) -> str:
    """What a command printed. Raises SystemExit with what it said where it fails."""
    result = subprocess.run(
        [str(c) for c in command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **options,
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}")
    return result.stdout


def guest() -> Path:
    """The program: guest.cpp with the extension's own objects."""
    from tests.compiled import COMPILER, FLAGS

    objects = [
        o
        for pattern in ("tile_*.o", "pass_*.o", "processor.o")
        for o in sorted(ROOT.glob(f"build/temp.*/csrc/cpu/{pattern}"))
    ]
    if not objects:
        sys.exit("no objects under build/temp.*: first python setup.py build_ext --inplace")
    source, out = Path(__file__).with_name("guest.cpp"), BUILD / "init"
    run(COMPILER, *FLAGS, "-O2", "-static", "-s", source, *objects, "-o", out)
    return out


def packages() -> Path:
    """Where Debian's kernel and boot loader lie, unpacked and not installed."""
    folder = BUILD / "packages"
    if not folder.exists():
        depends = run("apt-cache", "depends", PACKAGES[0])
        kernel = next(word for word in depends.split() if word.startswith("linux-image-6"))
        part = BUILD / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        run("apt-get", "download", kernel, *PACKAGES[1:], cwd=part)
        for package in part.glob("*.deb"):
            run("dpkg", "-x", package, part)
        part.rename(folder)
    return folder


def image(program: Path) -> Path:
    """A CD that boots the kernel with `program` as its /init."""
    unpacked, root, disc = packages(), BUILD / "root", BUILD / "disc"
    for folder in (root, disc):
        shutil.rmtree(folder, ignore_errors=True)
    (root / "dev").mkdir(parents=True)
    (disc / "isolinux").mkdir(parents=True)
    run("mknod", root / "dev" / "console", "c", "5", "1")
    shutil.copy(program, root / "init")
    run("sh", "-c", f"find . | cpio -o -H newc --quiet | gzip -1 > {disc}/initrd.gz", cwd=root)
    shutil.copy(next(unpacked.glob("boot/vmlinuz-*")), disc / "vmlinuz")
    shutil.copy(unpacked / "usr/lib/ISOLINUX/isolinux.bin", disc / "isolinux")
    shutil.copy(unpacked / "usr/lib/syslinux/modules/bios/ldlinux.c32", disc / "isolinux")
    (disc / "isolinux" / "isolinux.cfg").write_text(MENU, encoding="utf-8")
    boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot"]
    boot += ["-boot-load-size", "4", "-boot-info-table"]
    run("xorriso", "-as", "mkisofs", "-quiet", "-o", BUILD / "boot.iso", *boot, disc)
    return BUILD / "boot.iso"


def emulated(bochs: Path, disc: Path) -> list[list[str]]:
    """The rows that the guest printed on its serial line. Raises SystemExit where they did not end."""
    serial, log, configuration = BUILD / "serial.txt", BUILD / "bochs.log", BUILD / "bochsrc"
    serial.unlink(missing_ok=True)
    configuration.write_text(
        CONFIGURATION.format(bochs=bochs, image=disc, serial=serial, log=log), encoding="utf-8"
    )
    rows, said, end = [], [], time.monotonic() + LIMIT
    command = [bochs / "bochs", "-q", "-f", configuration]
    with (
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as machine,
        tqdm(desc="Bochs", unit="row") as progress,
    ):
        while machine.poll() is None and "done" not in said and time.monotonic() < end:
            time.sleep(1)
            said = (
                serial.read_text(encoding="utf-8", errors="replace").splitlines() if serial.exists() else []
            )
            rows = [line.split()[1:] for line in said[:-1] if line.startswith("row ")]
            progress.update(len(rows) - progress.n)
        machine.terminate()
    if "done" not in said:
        sys.exit(f"the guest did not come to its end: see {serial} and {log}")
    return rows


def table(rows: list[list[str]]) -> str:
    """A line a type and cell, a column a variant."""
    variants = ("portable", "avx2", "avx512", "amx")
    found = {(dtype, op if cell == "-" else cell, v): errors for op, cell, dtype, v, *errors in rows}
    lines = [f"| type | what | {' | '.join(variants)} |", "|---" * (2 + len(variants)) + "|"]
    for dtype, what in dict.fromkeys((dtype, what) for dtype, what, _ in found):
        errors = (" ".join(found.get((dtype, what, v), ["-"])) for v in variants)
        lines.append(f"| {dtype} | {what} | {' | '.join(errors)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bochs", type=Path, required=True, help="the folder where Bochs was built")
    parser.add_argument(
        "--write", type=Path, metavar="README.md", help="replaces the table at the file's end"
    )
    args = parser.parse_args()
    if not (args.bochs / "bochs").exists():
        parser.error(f"--bochs {args.bochs}: no program bochs there; see --help for how to build it")
    BUILD.mkdir(parents=True, exist_ok=True)
    rows = emulated(args.bochs.resolve(), image(guest()))
    print(table(rows))
    if args.write:
        text = args.write.read_text(encoding="utf-8").partition("| type |")[0]
        args.write.write_text(text + table(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
