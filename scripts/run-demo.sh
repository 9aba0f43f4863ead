#!/usr/bin/env bash
# The gateway on this machine, in front of three simulated servers or of a real one, with a key made for it. Secrets are
# made once and kept in var/, readable by their owner only. Once it is ready, target/run.env (readable by its owner only)
# says where it is; it goes when the gateway goes. usage: run-demo.sh [UPSTREAM]
set -euo pipefail
cd "$(dirname "$0")/.."

upstream=${1:-}
scripts/install-system.sh "${upstream:+run-}build"
cargo build --release --locked

umask 077
mkdir -p var
random() { # LENGTH letters and digits from the kernel
  local text=
  while [ "${#text}" -lt "$1" ]; do text+=$(head -c 256 /dev/urandom | tr -dc 'A-Za-z0-9'); done
  printf '%s' "${text:0:$1}"
}
[ -s var/pepper ] || random 64 > var/pepper
[ -s var/demo.key ] || printf 'tg_demo_%s' "$(random 43)" > var/demo.key

env=target/run.env
rm -f "$env"
sim= gateway=
stop() {
  trap - INT TERM EXIT
  rm -f "$env"
  [ -z "$gateway" ] || kill -TERM "$gateway" 2> /dev/null || true
  [ -z "$gateway" ] || wait "$gateway" || true
  [ -z "$sim" ] || kill -TERM "$sim" 2> /dev/null || true
}
trap stop INT TERM EXIT

conf=conf
if [ -n "$upstream" ]; then
  conf=target/run-conf
  model=$(python3 scripts/upstream_conf.py "$upstream" conf "$conf")
else
  target/release/tollgate sim --listen 127.0.0.1:8101 --instances 3 > var/sim.log 2>&1 &
  sim=$!
  # The first model of the catalogue, which never ends.
  model=$(sed -n 's/^ *- *name: *"\{0,1\}\([^"]*\)"\{0,1\} *$/\1/p' conf/models.yaml | head -n 1)
fi
for _ in $(seq 100); do
  [ -n "$sim" ] || break
  [ "$(grep -c '^sim listening' var/sim.log || true)" = 3 ] && break
  if ! kill -0 "$sim" 2> /dev/null; then
    echo "the simulated servers did not start:" >&2
    cat var/sim.log >&2
    exit 1
  fi
  sleep 0.1
done

announce() {
  local line url= admin=
  while IFS= read -r line; do
    echo "$line"
    case $line in
      "listening on "*) [ -n "$url" ] || url=${line#listening on } ;;
      "admin on "*) admin=${line#admin on } ;;
      ready)
        printf '%s\n' "TOLLGATE_BASE_URL=$url/v1" "TOLLGATE_API_KEY=$(cat var/demo.key)" "TOLLGATE_ADMIN_URL=$admin" \
          "TOLLGATE_MODEL=$model" "TOLLGATE_PID=$self" > "$env.new"
        mv "$env.new" "$env"
        cat << END

base URL  $url/v1
key       $(cat var/demo.key)
metrics   $admin/metrics

Try it:

  curl -N $url/v1/chat/completions -H "Authorization: Bearer \$(cat var/demo.key)" \\
    -H "Content-Type: application/json" \\
    -d '{"model":"$model","stream":true,"messages":[{"role":"user","content":"Hello"}]}'

Ctrl-C stops everything.
END
        ;;
    esac
  done
}
# Ending this process ends all of it.
self=$$
target/release/tollgate run --conf "$conf" > >(announce) &
gateway=$!
status=0
wait "$gateway" || status=$?
gateway=
exit "$status"
