#!/usr/bin/env bash
# Build on a GPU machine, run every test on the GPU, measure, and write all of it into one folder.
#
#   benchmarks/gpu.sh [OUT] [STAGE…]      stages: build test sanitize ops models; all of them unless told
#
# Each stage ends within ten minutes and can be run alone (build first). The torch that is installed is used as it is, and
# so are the card's settings. OUT (default: $OUT, else runs/gpu) gets the logs, the figures as JSON, and the tables.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-${OUT:-runs/gpu}}")
shift || true
stages=${*:-build test sanitize ops models}
mkdir -p "$out"
export PYTHONUNBUFFERED=1
failed=()

stage() {
  local name=$1
  shift
  [[ " $stages " == *" $name "* ]] || return 0
  printf '=== %s\n' "$name"
  if "$@" > "$out/$name.log" 2>&1; then tail -n 3 "$out/$name.log"; else tail -n 40 "$out/$name.log"; failed+=("$name"); fi
}

build() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  PYRCNN_CUDA=ON CMAKE_ARGS="-DPYRCNN_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native" \
    python3 -m pip install -e . --no-build-isolation --no-deps && python3 -c "
import json, pyrcnn, torch
info = pyrcnn.build_info() | {'gpu': torch.cuda.get_device_name()}
assert info['cuda_kernels'], info
print(json.dumps(info, indent=1))" | tee "$out/build_info.json"
}

run_tests() {
  PYRCNN_TEST_DEVICE=cuda python3 -m pytest -q tests/ops tests/models -m 'not slow' && python3 -m pytest -q tests/ops tests/deploy -m cuda
}

sanitize() {
  local small='tests/ops/test_contract.py -k test_equals_the_oracle'
  for tool in memcheck racecheck; do
    # shellcheck disable=SC2086
    PYRCNN_TEST_DEVICE=cuda PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 280 \
      compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-regex kns=pyrcnn python3 -m pytest -q -x $small || return 1
  done
}

bench() {
  python3 -m pytest "benchmarks/bench_$1.py" --bench-device cuda --seconds 1 --rows "$out/$1.json" -q -p no:cacheprovider &&
    python3 -m benchmarks.report "$out/$1.json" > "$out/$1.md"
}

stage build build
stage test run_tests
stage sanitize sanitize
stage ops bench ops
stage models bench models
[[ ${#failed[@]} == 0 ]] || { printf 'failed: %s\n' "${failed[*]}"; exit 1; }
