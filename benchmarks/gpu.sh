#!/usr/bin/env bash
# Build on a GPU machine, run every test on the GPU, measure, and write all of it into one folder.
#
#   benchmarks/gpu.sh [OUT] [STAGE…]      stages: build goals test ops models sanitize; all of these unless told.
#                                         Others: profile
#
# Each stage ends within ten minutes ($STAGE_SECONDS, 570) and can run alone after `build`. A stage that fails or is
# stopped keeps what it has measured, and the next stage runs. Nothing is downloaded: torch and the tools must be
# installed, and the GPU's settings stay as they are. For calls of ten minutes: `build goals ops`, `test`, `models`,
# `sanitize profile`, each after `build` on a new machine.
#
# OUT (default: $OUT, else runs/gpu) gets at most eight files: log.txt; goals, ops and models as .json (all figures) and
# .md (tables); profile.csv. Variables: $PYTHON, the interpreter (python3); $ARCHITECTURES to compile for (native);
# $BENCH_DEVICE and $TEST_DEVICE (cuda). A dry run without a GPU sets both to cpu and names the stages other than
# `build`; $MORE are further arguments for the benchmarks, as `--benchmark-disable`.
# The kernels are built with -lineinfo, so that `ncu` and `compute-sanitizer` name source lines.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-${OUT:-runs/gpu}}")
shift || true
stages=${*:-build goals test ops models sanitize}
python=${PYTHON:-python3}
device=${BENCH_DEVICE:-cuda}
mkdir -p "$out"
export PYTHONUNBUFFERED=1 PYRCNN_TEST_DEVICE=${TEST_DEVICE:-cuda}
failed=()

for stage in $stages; do
  [[ " build goals test ops models sanitize profile " == *" $stage "* ]] || { echo "no stage $stage" >&2; exit 2; }
done

# stage NAME COMMAND…: run it with output to the log, and print a summary.
stage() {
  local name=$1 began=$SECONDS state=passed before
  shift
  [[ " $stages " == *" $name "* ]] || return 0
  before=$(cat "$out/log.txt" 2> /dev/null | wc -l)
  printf '\n=== %s, %s\n' "$name" "$(date -u +%FT%TZ)" >> "$out/log.txt"
  deadline=$((SECONDS + ${STAGE_SECONDS:-570}))
  "$@" >> "$out/log.txt" 2>&1 || { state="FAILED ($?)"; failed+=("$name"); }
  [[ $state == passed ]] || tail -n +$((before + 1)) "$out/log.txt" | tail -n 40
  printf '=== %s: %s after %s s\n' "$name" "$state" $((SECONDS - began)) | tee -a "$out/log.txt"
}

# within SECONDS COMMAND…: run it for at most SECONDS and the rest of the stage. SIGINT comes first, so that pytest reports.
within() {
  local limit=$1 left=$((deadline - SECONDS - 15))
  shift
  ((left > 0)) || { echo "no time left for: $*"; return 124; }
  timeout --signal=INT --kill-after=10 $((limit < left ? limit : left)) "$@"
}

build() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,power.limit --format=csv || true
  CMAKE_ARGS="-DPYRCNN_CUDA=ON -DPYRCNN_CUDA_UNITY=OFF -DCMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-native}" \
    within 560 "$python" -m pip install -e . --no-build-isolation --no-deps && "$python" -c "
import json, pyrcnn, torch
info = pyrcnn.build_info() | {'torch': torch.__version__, 'cuda': torch.version.cuda}
if torch.cuda.is_available():
    info |= {'gpu': torch.cuda.get_device_name(), 'capability': torch.cuda.get_device_capability()}
print(json.dumps(info, indent=1))
assert info['cuda_kernels'], 'built without the CUDA kernels'"
}

# Several workers share the GPU, because most of a test runs on the host.
run_tests() {
  local workers=() status=0
  "$python" -c 'import xdist' 2> /dev/null && workers=(-n 8)
  within 180 "$python" -m pytest -q -p no:cacheprovider "${workers[@]}" tests/ops tests/deploy \
    -m 'cuda and not slow' || status=1
  within 400 "$python" -m pytest -q -p no:cacheprovider "${workers[@]}" tests/ops tests/models tests/deploy \
    -m 'not slow and not cuda' || status=1
  return $status
}

# The oracle of each operator in one dtype, and empty inputs. The tools instrument our kernels only; initcheck is left out,
# because it would not see what torch's kernels write.
sanitize() {
  local status=0 tool
  for tool in memcheck racecheck synccheck; do
    printf -- '--- %s\n' "$tool"
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 within 180 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      --kernel-regex kns=pyrcnn --print-limit 20 "$python" -m pytest -q -p no:cacheprovider \
      tests/ops/test_contract.py -k 'test_equals_the_oracle and float32 or test_empty_inputs' || status=1
  done
  return $status
}

# bench NAME [arguments of pytest]: tables are made from all rows that were measured.
bench() {
  local name=$1 status=0
  shift
  within 560 "$python" -m pytest "benchmarks/bench_$name.py" --bench-device "$device" --rows "$out/$name.json" -q \
    -p no:cacheprovider ${MORE:-} "$@" || status=$?
  [[ -s $out/$name.json ]] && { "$python" -m benchmarks.report "$out/$name.json" > "$out/$name.md" || status=1; }
  return $status
}

# The time of each kernel and what limits it. One kernel by hand, with source lines:
#   ncu --set full --import-source on -k regex:gather -c 1 -o gather python3 -m pytest benchmarks/bench_goals.py …
profile() {
  within 300 ncu -k regex:pyrcnn -c 60 --csv --log-file "$out/profile.csv" --metrics \
gpu__time_duration.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed,\
dram__throughput.avg.pct_of_peak_sustained_elapsed,lts__throughput.avg.pct_of_peak_sustained_elapsed,\
sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread \
    "$python" -m pytest benchmarks/bench_goals.py --bench-device cuda --benchmark-disable -q -p no:cacheprovider \
    -k 'not detector'
}

stage build build
stage goals bench goals --seconds 1
stage test run_tests
stage ops bench ops --seconds 0.5
stage models bench models --seconds 1
stage sanitize sanitize
stage profile profile
[[ ${#failed[@]} == 0 ]] || { printf 'failed: %s\n' "${failed[*]}"; exit 1; }
