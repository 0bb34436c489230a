#!/usr/bin/env bash
# A Ray cluster by ssh: the head here, a worker on each named machine; needs ssh to them without a password.
#   examples/cluster/start.sh gpu1 gpu2        then: RAY_AUTH_MODE=token python -m search.run SPACE.yml --address auto --out /shared/runs
#   examples/cluster/start.sh --stop gpu1 gpu2
# The environment must be at the same path on every machine (VENV, by default this checkout's .venv).
set -euo pipefail

VENV=${VENV:-$(cd "$(dirname "$0")/../.." && pwd)/.venv}
PORT=${PORT:-6379}
HEAD=${HEAD:-$(hostname -I | cut -d' ' -f1)} # the address at which the others reach this machine
export RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token # docs/security.md; also for the search: RAY_AUTH_MODE=token python -m search.run ...

if [[ ${1:-} == --stop ]]; then
  shift
  for host in "$@"; do ssh "$host" "$VENV/bin/ray" stop; done
  "$VENV/bin/ray" stop
  exit
fi

[[ -s ~/.ray/auth_token ]] || "$VENV/bin/ray" get-auth-token --generate >/dev/null
"$VENV/bin/ray" start --head --node-ip-address "$HEAD" --port "$PORT" --include-dashboard=false
for host in "$@"; do
  ssh "$host" 'umask 077; mkdir -p ~/.ray; cat > ~/.ray/auth_token' < ~/.ray/auth_token
  ssh "$host" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 "$VENV/bin/ray" start --address "$HEAD:$PORT"
done
"$VENV/bin/ray" status --address "$HEAD:$PORT"
