#!/usr/bin/env bash
# Everything that needs a GPU, in one command (make gpu): build, op tests, sanitizer, benchmarks, training steps.
# Ends within 8 minutes. Needs torch with CUDA, numpy, protobuf and pytest; no network. benchmarks/gpu.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
