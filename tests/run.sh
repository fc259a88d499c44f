#!/usr/bin/env bash
# run.sh - every test: installs what is missing, builds, runs the C tests, the specs and luacheck, then the same again
# with address and undefined-behaviour sanitizers, and a build by clang whose fuzz targets (tests/fuzz) replay their
# inputs and look for new ones for 10 seconds each. Every compiler warning is an error.
# The last line is "N passed, N failed"; the logs are build/test-*.log. FAST=1 leaves out the second half.
set -uo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

. .ci/packages.sh
install_packages $TEST_PACKAGES || { echo "packages are missing"; echo "0 passed, 1 failed"; exit 1; }

passed=0 failed=0
# (detect_stack_use_after_return is out: gcc 12 then misaligns 64-byte vectors, gcc bug 110027)
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=0:strict_string_checks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
export OMP_WAIT_POLICY=passive # waiting threads sleep: tests share the machine
mkdir -p build
rm -f build/test-*.log build/test-*.log.end # what an earlier run left says nothing of this one

# count NAME GOOD BAD: what a runner said of itself
count() {
  passed=$((passed + $2)) failed=$((failed + $3))
  printf '%-28s %5d passed %5d failed  %4d s\n' "$1" "$2" "$3" $((${ended:-$SECONDS} - began))
  ended=
  [ "$3" = 0 ] || show "build/test-$1.log"
}

# show LOG: what failed and why, or else how it ended
show() {
  echo "--- $1"
  grep -aE -B1 -A8 '^(Failure|Error) ->|  ERROR   |ERROR: |FAILED: |error: |: warning|[0-9]+ warnings?$' "$1" |
    cut -c1-300 | head -n 120 | grep . || tail -n 30 "$1" | cut -c1-300
  echo "---"
}

# sum PATTERN FILE: of the first number in the lines that match
sum() { grep -aoE "$1" "$2" | grep -oE '[0-9]+' | awk '{ n += $1 } END { print n + 0 }'; }

# settle NAME STATUS GOOD BAD: a runner that ran nothing, or ended badly without naming a failure, has failed
settle() {
  local bad=$4
  if [ "$2" != 0 ] && [ "$bad" = 0 ]; then bad=1; echo "$1 ended with status $2"; fi
  if [ "$3" = 0 ] && [ "$bad" = 0 ]; then bad=1; echo "$1 ran no test"; fi
  count "$1" "$3" "$bad"
}

# build NAME FOLDER CMAKE-OPTION...: one test that passes where all compiles without a warning
# (WANE_TESTS by name: quickstart.sh builds in the same folder without the tests)
build() {
  local name=$1 folder=$2 log=build/test-$1.log
  shift 2
  began=$SECONDS
  if cmake -S . -B "$folder" -G Ninja -DWANE_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON "$@" >"$log" 2>&1 &&
    ninja -C "$folder" >>"$log" 2>&1; then
    count "$name" 1 0
  else
    count "$name" 0 1
    return 1
  fi
}

# start NAME COMMAND...: runs it beside what follows; its status and end are kept for finish
start() {
  local log=build/test-$1.log
  shift
  rm -f "$log.end"
  { "$@" >"$log" 2>&1; echo "$? $SECONDS" >"$log.end"; } &
}

c_tests() { start "$1" timeout -k 10 900 "$2/test_wane"; } # NAME FOLDER
specs() { start "$1" timeout -k 10 1800 "$2/wane" tests/run.lua -o plainTerminal "$3"; } # NAME FOLDER SPECS

# finish NAME...: waits for what was started, and counts
finish() {
  local name log status bad
  wait
  for name in "$@"; do
    log=build/test-$name.log
    read -r status ended <"$log.end" || status=lost
    bad=$(($(sum '^ *[0-9]+ FAILED TEST' "$log") + $(sum '[0-9]+ failures? /' "$log") + $(sum '[0-9]+ errors? /' "$log")))
    settle "$name" "$status" "$(($(sum '\[  PASSED  \] [0-9]+ test' "$log") + $(sum '[0-9]+ success' "$log")))" "$bad"
  done
}

lint() {
  local log=build/test-luacheck.log bad
  began=$SECONDS
  luacheck --no-color . >"$log" 2>&1
  bad=$(grep -cE '(warnings?|errors?)$' "$log") # files
  settle luacheck 0 "$(($(sum 'errors? in [0-9]+ files?' "$log") - bad))" "$bad"
}

fuzz() { # FOLDER: each target counts twice, for its corpus and for what is new
  local log=build/test-fuzz.log status
  began=$SECONDS
  tests/fuzz/fuzz.sh "$1" 10 >"$log" 2>&1
  status=$?
  settle fuzz $status "$(grep -c '^passed ' "$log")" "$(grep -c '^FAILED ' "$log")"
}

# CUDA code is compiled for one architecture where nvcc is, and cannot run here: tests/gpu.sh does that elsewhere.
if build gcc build -DCMAKE_CUDA_ARCHITECTURES=90; then
  began=$SECONDS
  c_tests c build
  finish c
  began=$SECONDS
  specs lua build tests/spec
  finish lua
fi
lint
if [ "${FAST:-}" != 1 ]; then
  build clang build-clang -DCMAKE_C_COMPILER=clang -DWANE_FUZZ=ON -DWANE_CUDA=OFF && fuzz build-clang
  if build sanitizers build-asan -DWANE_SANITIZE=address,undefined -DWANE_CUDA=OFF; then
    began=$SECONDS
    [ ! -x build/wane ] || specs lune build tests/slow
    c_tests c-sanitized build-asan
    specs lua-sanitized build-asan tests/spec
    finish lune c-sanitized lua-sanitized
  fi
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
