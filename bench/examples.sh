#!/bin/bash
# Deploys examples, each with its own deploy.sh, and prints what `thaw bench` measures of them, as Markdown.
# usage: ./run bench examples [RUNS [NAME...]]   (default 50 runs, of every example that has a deploy.sh)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

runs=${1:-50}
shift || true
names=("$@")
if [ ${#names[@]} = 0 ]; then
    for script in examples/*/deploy.sh; do
        names+=("$(basename "$(dirname "$script")")")
    done
fi
source bench/server.sh
export THAW=$PWD/build/thaw

machine
for name in "${names[@]}"; do
    if ! "examples/$name/deploy.sh" "$name" >"$work/deploy.log" 2>&1 </dev/null; then
        cat "$work/deploy.log" >&2
        exit 1
    fi
    payload=()
    [ ! -f "examples/$name/event.json" ] || payload=(--payload "@examples/$name/event.json")
    measure "$name" "$name:1" -n "$runs" -c 20 "${payload[@]}"
done
