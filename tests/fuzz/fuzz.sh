#!/usr/bin/env bash
# fuzz.sh BUILD [SECONDS [TARGET...]] - replays the corpora, then fuzzes each target for so many seconds (10), as many at
# a time as there are processors; CMakeLists.txt says how to build them. What fails is kept in BUILD/fuzz/findings, new
# inputs in BUILD/fuzz/new. FUZZ_TIMEOUT: seconds that one input may take (20). The last line is "N passed, N failed".
set -uo pipefail
build=$(cd "${1:?fuzz.sh BUILD [SECONDS [TARGET...]]}" && pwd)/fuzz || exit 1
seconds=${2:-10} here=$(cd "$(dirname "$0")" && pwd)
shift $(($# < 2 ? $# : 2))
targets=("$@")
[ $# -gt 0 ] || for file in "$here"/*.dict; do targets+=("$(basename "$file" .dict)"); done

export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$here/../lsan.supp:print_suppressions=0
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# one TARGET: replay and fuzz; two lines "TARGET what passed|FAILED ..."
one() {
  local name=$1 log=$build/$1.log status=0 leaks=1
  mkdir -p "$build/findings" "$build/new/$name"
  [ ! -f "$here/$name.lua" ] || leaks=0 # Lua frees later: leaks are looked for once, at the end
  local limits=(-timeout="${FUZZ_TIMEOUT:-20}" -rss_limit_mb=2048 -malloc_limit_mb=1024 "-detect_leaks=$leaks"
    -artifact_prefix="$build/findings/$name-")
  "$build/$name" "${limits[@]}" "$here/corpus/$name"/* >"$log" 2>&1 || status=$?
  tell "$name" "replay of $(find "$here/corpus/$name" -type f | wc -l) inputs" $status "$log"
  status=0
  "$build/$name" "${limits[@]}" -dict="$here/$name.dict" -max_len=4096 -max_total_time="$seconds" -print_final_stats=1 \
    "$build/new/$name" "$here/corpus/$name" >"$log" 2>&1 || status=$?
  tell "$name" "fuzz: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, $(
    grep -aoE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)" $status "$log"
}

tell() { # NAME WHAT STATUS LOG
  [ "$3" != 0 ] || { echo "passed $1 $2"; return; }
  # a line of its own for each, whoever else writes
  echo "FAILED $1 $2: status $3
$(grep -aE 'ERROR|does not hold|^SUMMARY|Test unit written|    #[0-9] ' "$4" | head -n 20 | cut -c1-300)"
}

out=$(mktemp)
for name in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
  one "$name" | tee -a "$out" &
done
wait
failed=$(grep -c '^FAILED' "$out")
echo "$(grep -c '^passed' "$out") passed, $failed failed"
rm -f "$out"
[ "$failed" = 0 ]
