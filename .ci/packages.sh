# packages.sh - what wane needs of Debian 12, and how a script gets it. Sourced by tests/run.sh and quickstart.sh.
BUILD_PACKAGES="gcc cmake ninja-build pkg-config liblua5.4-dev lua-filesystem-dev lua-argparse libopenblas-openmp-dev
  libjansson-dev libpcre2-dev libutf8proc-dev libedit-dev libsnappy-dev libzstd-dev zlib1g-dev libcurl4-openssl-dev
  libssl-dev"
TEST_PACKAGES="$BUILD_PACKAGES lua5.4 lua-busted lua-check libcmocka-dev clang libclang-rt-14-dev libomp-dev python3 gzip
  openssl"

# install_packages NAME...: installs with apt those of the packages that are missing; needs root only then.
install_packages() {
  local missing=() name sudo=""
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || sudo=sudo
  echo "installing: ${missing[*]}" >&2
  $sudo apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}
