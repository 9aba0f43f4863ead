#!/usr/bin/env bash
# Installs the system packages that a job needs and that are missing. usage: install-system.sh build|run-build|test
# Nothing missing means no apt at all, so that it works without root on a machine that has everything.
set -euo pipefail

missing=()
need() { command -v "$1" > /dev/null || missing+=("$2"); }

need cc build-essential
need cmake cmake # zlib-ng, which Pingora's compression links, builds with it
# The scanner's pattern engine; two packages offer the same library, each for its processors.
if [ "$(cc -print-file-name=libhs.a 2> /dev/null || echo libhs.a)" = libhs.a ]; then
  case $(uname -m) in
    x86_64) missing+=(libhyperscan-dev) ;;
    *) missing+=(libvectorscan-dev) ;;
  esac
fi
if [ "${1:?build, run-build or test}" = run-build ]; then
  need python3 python3 # asks a real server for its models
fi
if [ "$1" = test ]; then
  need python3 python3
  python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
  need node nodejs
  need npm npm
  # The store's tests start servers of their own; the one that the package would start is not wanted.
  if ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 && ! command -v initdb > /dev/null; then
    missing+=(postgresql)
  fi
  if ! command -v valkey-server > /dev/null && ! command -v redis-server > /dev/null; then
    store=valkey-server
    apt-cache show valkey-server > /dev/null 2>&1 || store=redis-server # Debian 12 has no Valkey
    missing+=("$store")
  fi
fi
if ! command -v cargo > /dev/null; then
  echo "cargo is missing: install Rust with rustup (https://rustup.rs)" >&2
  exit 1
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "missing: ${missing[*]}. Install them as root, then try again." >&2
    exit 1
  fi
  sudo=(sudo)
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Packages start what they install unless this says no (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt).
if [[ " ${missing[*]} " == *"-server "* && ! -e /usr/sbin/policy-rc.d ]]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee /usr/sbin/policy-rc.d > /dev/null
  "${sudo[@]}" chmod +x /usr/sbin/policy-rc.d
  trap '"${sudo[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
fi
if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  "${sudo[@]}" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf > /dev/null
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
