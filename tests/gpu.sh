#!/usr/bin/env bash
# gpu.sh - every test that a GPU can run, on a machine that has one and need have no compiler:
#   tests/gpu.sh build          (or any folder with wane, test_wane and libwane_cuda.so)
# Kernels against the plain reference, C tests and specs with WANE_DEVICE=cuda, the bundled models' answers, and
# compute-sanitizer over the kernels where that tool is, several at a time; then, alone, what fails on purpose: every
# allocation on the device, a kernel that faults (with libwane_fault.so), memory that another program holds. The log
# goes to $OUT/gpu-tests.txt if OUT is set, else to build/; its end is the table. QUICK=1 leaves out the sanitizer,
# JOBS says how many at a time, SECONDS_EACH how long the sanitizer's tools may take.
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
log=$folder/gpu-tests.txt passed=0 failed=0 began=$SECONDS
export WANE_DEVICE=cuda WANE_TREE=$PWD OMP_WAIT_POLICY=passive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  echo "# $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo "${WANE_COMMIT:-unknown}")"
  "$bin/wane" doctor
} >"$log" 2>&1

names=() limits=()

# job NAME LIMIT COMMAND...: in the background, once fewer than JOBS are there
job() {
  local n=${#names[@]} limit=$2
  names+=("$1") limits+=("$limit")
  shift 2
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-6}" ]; do wait -n; done
  {
    local start=$SECONDS
    timeout -k 10 "$limit" "$@" >"$work/$n" 2>&1
    echo "$? $((SECONDS - start))" >"$work/$n.end"
  } &
}

specs() { job "$(basename "$1" .lua)" "${2:-300}" "$bin/wane" tests/run.lua -o plainTerminal "$1"; }

c_tests() { # NAME GROUP [COMMAND...]: a group of test_wane
  local name=$1 group=$2
  shift 2
  job "$name" 300 "$@" "$bin/test_wane" "$group"
}

sum() { grep -aoE "$1" "$2" | grep -oE '[0-9]+' | awk '{ n += $1 } END { print n + 0 }'; }

# report N: a runner that ran nothing, or ended badly without naming a failure, has failed; the sanitizer past its time
# has found nothing so far, and where it cannot work on the machine nothing is said
report() {
  local out=$work/$1 name=${names[$1]} status seconds good bad note
  read -r status seconds <"$out.end"
  good=$(($(sum '\[  PASSED  \] [0-9]+ test' "$out") + $(sum '[0-9]+ success' "$out")))
  bad=$(($(sum '^ *[0-9]+ FAILED TEST' "$out") + $(sum '[0-9]+ failures? /' "$out") + $(sum '[0-9]+ errors? /' "$out")))
  note=$(grep -aoE '[0-9]+ of 800' "$out" | sort | uniq -c | awk '{ printf "%s ", $2 "/" $4 }')
  { echo "== $name"; grep -avE '^\[ RUN|^\[       OK|^\[=====' "$out" | cut -c1-400 | tail -n 400; } >>"$log"
  case $name in
    *check)
      bad=$((bad + $(sum 'ERROR SUMMARY: [0-9]+' "$out") + $(sum 'RACECHECK SUMMARY: [0-9]+' "$out")))
      if [ "$status" = 124 ] && [ "$bad" = 0 ]; then
        echo "$name: no error in ${limits[$1]} s, then stopped"
        return
      elif ! grep -q 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out"; then
        echo "$name: the tool does not work here"
        return
      fi ;;
  esac
  if [ "$bad" = 0 ] && { [ "$status" != 0 ] || [ "$good" = 0 ]; }; then bad=1; fi
  passed=$((passed + good)) failed=$((failed + bad))
  printf '%-34s %5d passed %3d failed %5d s  %s\n' "$name" "$good" "$bad" "$seconds" "$note"
}

c_tests "kernels" kernels env WANE_TEST_KERNELS="$bin/libwane_cuda.so" WANE_TEST_CPU=0
if [ "${QUICK:-}" != 1 ] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    c_tests "kernels, $tool" kernels env WANE_TEST_KERNELS="$bin/libwane_cuda.so" WANE_TEST_CPU=0 \
      timeout "${SECONDS_EACH:-150}" compute-sanitizer --tool $tool --error-exitcode 99
  done
fi
specs tests/slow/lune_spec.lua
for name in quantize methods generate model checkpoint device tensor safetensors score chat calibration head errors \
  options synth memory early; do
  specs tests/spec/${name}_spec.lua
done
c_tests "models and calibration" device
c_tests "methods on single matrices" quant
wait
specs tests/gpu/failures_spec.lua
wait

for n in "${!names[@]}"; do report "$n"; done >"$work/table"
{
  sed -n '1,6p' "$log"
  cat "$work/table"
  echo "$((SECONDS - began)) s, ${JOBS:-6} at a time"
  echo "$passed passed, $failed failed"
} | tee -a "$log"
[ "$failed" = 0 ]
