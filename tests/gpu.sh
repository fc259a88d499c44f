#!/usr/bin/env bash
# gpu.sh - every test that a GPU can run, on a machine that has one and need have no compiler:
#   tests/gpu.sh build          (or any folder with wane, test_wane and libwane_cuda.so)
# Kernels against the plain reference, C tests and specs with WANE_DEVICE=cuda, the bundled models' answers, every
# allocation on the device failing once, and compute-sanitizer over the kernels where that tool is. The log goes to
# $OUT/gpu-tests.txt if OUT is set, else to build/; its end is the table. QUICK=1 leaves out the sanitizer.
# The last line is "N passed, N failed".
set -uo pipefail
bin=$(realpath "${1:?usage: tests/gpu.sh FOLDER with wane, test_wane and libwane_cuda.so}")
cd "$(dirname "$0")/.."
exec </dev/null

for file in wane test_wane libwane_cuda.so; do
  [ -e "$bin/$file" ] || { echo "no $file in $bin"; echo "0 passed, 1 failed"; exit 2; }
done
folder=${OUT:-build}
mkdir -p "$folder"
log=$folder/gpu-tests.txt table="" passed=0 failed=0
export WANE_DEVICE=cuda WANE_TREE=$PWD OMP_WAIT_POLICY=passive
{
  echo "# $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo "${WANE_COMMIT:-unknown}")"
  "$bin/wane" doctor
} >"$log" 2>&1

sum() { grep -aoE "$1" "$2" | grep -oE '[0-9]+' | awk '{ n += $1 } END { print n + 0 }'; }

# row NAME STATUS GOOD BAD [NOTE]: a runner that ran nothing, or ended badly without naming a failure, has failed
row() {
  local bad=$4
  if [ "$bad" = 0 ] && { [ "$2" != 0 ] || [ "$3" = 0 ]; }; then bad=1; fi
  passed=$((passed + $3)) failed=$((failed + bad))
  table+=$(printf '%-34s %5d passed %3d failed %5d s  %s' "$1" "$3" "$bad" $((SECONDS - began)) "${5:-}")$'\n'
}

# c_tests NAME SECONDS COMMAND...: a group of test_wane
c_tests() {
  local name=$1 limit=$2 out
  shift 2
  began=$SECONDS out=$(mktemp)
  timeout -k 10 "$limit" "$@" >"$out" 2>&1
  row "$name" $? "$(sum '\[  PASSED  \] [0-9]+ test' "$out")" "$(sum '^ *[0-9]+ FAILED TEST' "$out")"
  { echo "== $name"; grep -avE '^\[ RUN|^\[       OK|^\[=====' "$out"; } >>"$log"
  rm "$out"
}

specs() { # FILE
  local name out
  name=$(basename "$1" .lua) out=$(mktemp)
  began=$SECONDS
  timeout -k 10 300 "$bin/wane" tests/run.lua -o plainTerminal "$1" >"$out" 2>&1
  row "$name" $? "$(sum '[0-9]+ success' "$out")" \
    "$(($(sum '[0-9]+ failures? /' "$out") + $(sum '[0-9]+ errors? /' "$out")))" \
    "$(grep -aoE '[0-9]+ of 800' "$out" | sort | uniq -c | awk '{ printf "%s ", $2 "/" $4 }')"
  { echo "== $name"; cut -c1-400 "$out"; } >>"$log"
  rm "$out"
}

# sanitize TOOL SECONDS: the kernels' tests on the GPU alone under a tool of compute-sanitizer
sanitize() {
  local out errors status
  began=$SECONDS out=$(mktemp)
  WANE_TEST_CPU=0 timeout -k 10 "$2" compute-sanitizer --tool "$1" --error-exitcode 99 "$bin/test_wane" kernels \
    >"$out" 2>&1
  status=$?
  errors=$(sum 'ERROR SUMMARY: [0-9]+' "$out")
  # past its time it has found nothing so far; where the tool cannot work on the machine, nothing is said
  if [ $status = 124 ]; then
    table+="$1: no error in $2 s, then stopped"$'\n'
  elif ! grep -q 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out"; then
    table+="$1: the tool does not work here"$'\n'
  else
    errors=$((errors + $(sum 'RACECHECK SUMMARY: [0-9]+' "$out")))
    row "kernels, $1" $status "$(sum '\[  PASSED  \] [0-9]+ test' "$out")" "$errors"
  fi
  { echo "== $1"; grep -avE '^\[ RUN|^\[       OK' "$out" | tail -n 60; } >>"$log"
  rm "$out"
}

WANE_TEST_KERNELS=$bin/libwane_cuda.so WANE_TEST_CPU=0 c_tests "kernels" 300 "$bin/test_wane" kernels
c_tests "models and calibration" 300 "$bin/test_wane" device
c_tests "methods on single matrices" 300 "$bin/test_wane" quant
for name in device model checkpoint tensor safetensors score generate chat methods calibration quantize head errors \
  options synth memory; do
  specs tests/spec/${name}_spec.lua
done
specs tests/slow/lune_spec.lua
export WANE_TEST_KERNELS=$bin/libwane_cuda.so
if [ "${QUICK:-}" != 1 ] && command -v compute-sanitizer >/dev/null; then
  sanitize memcheck 150
  sanitize racecheck 150
fi

{
  sed -n '1,6p' "$log"
  printf '%s' "$table"
  echo "$passed passed, $failed failed"
} | tee -a "$log"
[ "$failed" = 0 ]
