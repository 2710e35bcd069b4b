"""Builds the source distribution and from it both wheels; installs each in a new environment and uses it.

    python .ci/package.py [FOLDER]    what was built stays in FOLDER (dist)

Dependencies are not downloaded: the new environments read those of the Python that runs this. The build in
pip's isolation, which does not see torch, fetches setuptools.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED_AS = {f"{name}/": f"crnn/{name}/" for name in ("benchmarks", "data_tools", "prototxt_like")}
NOT_SHIPPED = ("benchmarks/results/", "benchmarks/gpu.sh")
EXTENSIONS = {"crnn/_C.abi3.so"}
CPU, PURE = "cp310-abi3-linux_x86_64", "py3-none-any"


def run(*words, cwd=ROOT, **environment) -> str:
    """The output of a command; what it wrote is shown if it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, words))}: exit status {done.returncode}")
    return done.stdout


def check(what: str, got, wanted) -> None:
    if got == wanted:
        return
    if isinstance(got, set):
        got, wanted = f"also {sorted(got - wanted)}", f"also {sorted(wanted - got)}"
    sys.exit(f"{what}: wanted {wanted}, got {got}")


def tracked() -> set[str]:
    """What git holds or would take, without the dot files."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {name for name in listed if name[0] != "." and (ROOT / name).exists()}


def source(folder: Path) -> Path:
    """The source distribution; it must hold what git holds."""
    run(
        sys.executable,
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
        "--outdir",
        folder,
        ROOT,
        CRNN_BUILD="none",
    )
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {m.name.split("/", 1)[1] for m in archive.getmembers() if m.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in files if name.startswith("crnn.egg-info/")}
    check(path.name, files - made, tracked())
    return path


def wheel(sdist: Path, folder: Path, tag: str, *options: str, **environment) -> Path:
    """The wheel of a source distribution; it must hold the package, whole, and nothing else."""
    made = Path(tempfile.mkdtemp(dir=folder))
    text = run(
        sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", *options, "-w", made, sdist, **environment
    )
    (path,) = made.glob("*.whl")
    check(f"tag of the wheel, CRNN_BUILD={environment.get('CRNN_BUILD')}", path.stem.split("-", 2)[2], tag)
    said = [line.strip() for line in text.splitlines() if line.strip().startswith("crnn: ")]
    print(f"{path.name} ({path.stat().st_size // 1024} KB): {said[-1]}", flush=True)
    files = {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}
    parts = ("crnn/", *SHIPPED_AS)
    package = {name for name in tracked() if name.startswith(parts) and not name.startswith(NOT_SHIPPED)}
    for old, new in SHIPPED_AS.items():
        package = {new + name[len(old) :] if name.startswith(old) else name for name in package}
    check(path.name, files, package | (EXTENSIONS if tag == CPU else set()))
    return path


def installed(path: Path, folder: Path) -> Path:
    """The Python of a new environment with the wheel, reading our own dependencies."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python3*/site-packages")
    ours = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(ours) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    run(*pip, "--no-index", "--no-deps", "--ignore-installed", path)
    return python


def use(path: Path, folder: Path, *backends: str) -> None:
    """Runs .ci/smoke.py and `crnn doctor` of the installed wheel from an empty folder."""
    python = installed(path, folder / f"venv-{backends[-1]}")
    empty = folder / f"empty-{backends[-1]}"
    empty.mkdir()
    print(run(python, "-I", ROOT / ".ci" / "smoke.py", *backends, cwd=empty), end="")
    print(run(python.parent / "crnn", "doctor", cwd=empty), end="", flush=True)


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sdist = source(folder)
        pure = wheel(sdist, folder, PURE, "--no-build-isolation", CRNN_BUILD="none")
        wheel(sdist, folder, PURE, CRNN_BUILD="auto")  # isolated: torch is out of sight
        cpu = wheel(sdist, folder, CPU, "--no-build-isolation", CRNN_BUILD="cpu")
        use(pure, folder, "reference")
        use(cpu, folder, "reference", "cpu")
        for path in (sdist, pure, cpu):
            shutil.move(path, out / path.name)
    print(f"package: 1 source distribution and 2 wheels in {out}, each wheel installed and used")


if __name__ == "__main__":
    main()
