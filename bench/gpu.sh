#!/usr/bin/env bash
# For a machine with an NVIDIA GPU: the tests on it, compute-sanitizer, and the GPU benchmarks.
#
#     bench/gpu.sh [cuda12|cuda13]
#
# Makes .venv-gpu (PYTHON=... chooses the interpreter) unless FASTNN_PYTHON names one that has what is needed already.
# PyTorch takes part if it can be imported there. Writes bench/results/gpu-NAME.json.
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:-cuda13}
python=${FASTNN_PYTHON:-}
if [ -z "$python" ]; then
    [ -x .venv-gpu/bin/python ] || "${PYTHON:-python3}" -m venv .venv-gpu
    .venv-gpu/bin/pip install --quiet --editable ".[test,bench,$extra]"
    python=.venv-gpu/bin/python
fi

step() { printf '\n== %s\n' "$*"; }

step "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || true
"$python" -m fastnn info

step "tests on the GPU"
"$python" -m pytest -q --device cuda tests/kernels tests/test_device.py tests/test_captured.py

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        step "compute-sanitizer $tool"
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m pytest -q --device cuda tests/test_device.py tests/test_captured.py
    done
else
    step "compute-sanitizer is not installed: left out"
fi

step "benchmarks"
"$python" -m bench.gpu
