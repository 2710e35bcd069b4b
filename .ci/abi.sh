#!/usr/bin/env bash
# The same built binary under two torch versions: .ci/abi.sh WHEEL TORCH PYTHON OURS [PIP OPTION ...]
#
# Runs the tests of the ops on the wheel twice: with OURS, the Python of the torch that built it, and in an
# environment that it makes with PYTHON (say python3.13) and torch==TORCH under build/abi.
set -euo pipefail
wheel=$(realpath "$1") torch=$2 python=$3 ours=$(realpath -s "$4")
shift 4
cd "$(dirname "$0")/.."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
folder=$PWD/build/abi/torch-$torch-python-$version
theirs=$folder/bin/python
if [ ! -e "$folder/.installed" ]; then
  "$python" -m venv --clear "$folder"
  "$theirs" -m pip install -q "$@" "torch==$torch"
  "$theirs" -m pip install -q numpy protobuf lmdb opencv-python-headless safetensors tqdm pytest pytest-timeout
  touch "$folder/.installed"
fi
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cp -r tests pyproject.toml "$run"
"$ours" -m pip install -q --no-deps --no-index --target "$run" "$wheel"
cd "$run"
for each in "$ours" "$theirs"; do
  "$each" -c "
import sys, torch, crnn
assert crnn.__file__.startswith('$run') and 'cpu' in crnn.ops.backends(), crnn.ops.backend.why_not
print('crnn/_C.abi3.so under torch', torch.__version__, 'and Python', sys.version.split()[0], flush=True)"
  "$each" -m pytest tests/ops tests/nn -p no:cacheprovider
done
