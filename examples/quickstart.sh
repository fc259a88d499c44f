#!/usr/bin/env bash
# quickstart.sh - from a bare Debian 12 to the whole study on the bundled models: installs what is missing, builds, and
# runs recipes/fallback.lua under a budget that the largest of them does not fit, so that the study falls back.
set -euo pipefail
cd "$(dirname "$0")/.."

. .ci/packages.sh
install_packages $BUILD_PACKAGES

mkdir -p build
{ cmake -S . -B build -G Ninja -DWANE_TESTS=OFF && ninja -C build wane; } >build/quickstart.log 2>&1 ||
  { tail -n 40 build/quickstart.log >&2; echo "the build failed; all of it is in build/quickstart.log" >&2; exit 1; }

build/wane recipes/fallback.lua --memory 10MiB --out runs/quickstart "$@"
echo
echo "The report: $PWD/runs/quickstart/report.html (and status.md, status.json beside it)"
