#!/usr/bin/env bash
# Two torchrun agents on this computer, as on two machines. Usage: two_machines.sh OUT ARGUMENTS OF pyrcnn train
# On real machines, give HOST the name of the first one, start the same command on each, and let OUT be a folder that
# both share.
set -euo pipefail
HOST=${HOST:-127.0.0.1} PORT=${PORT:-29431}
out=$1 && shift

agent() {
  torchrun --nnodes 1:2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint "$HOST:$PORT" --rdzv-id shapes \
    --rdzv-conf last_call_timeout=5 --max-restarts 3 -m pyrcnn train "$@" --out "$out"
}

agent "$@" &
first=$!
sleep 1 # the first agent hosts the meeting point
agent "$@"
wait $first
