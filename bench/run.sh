#!/bin/bash
# Measures the figures that this project promises, on this machine, and prints them as Markdown.
# usage: ./run bench [RUNS [THAWS]]   (default 100 runs of each kind; 20000 thaws in search of leaks, 0 for none)
# With THAW_BENCH_10_GIB=1 also examples/big-model of that size, for which the machine should have 32 GiB.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

runs=${1:-100}
thaws=${2:-20000}
source bench/server.sh

# deploy NAME RUNTIME HANDLER ZIP
deploy() {
    "$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda create-function --function-name "$1" --runtime "$2" --handler "$3" \
        --role arn:aws:iam::000000000000:role/any --zip-file "fileb://$4" --memory-size 1769 --timeout 30 \
        --snap-start ApplyOn=PublishedVersions >/dev/null
    "$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda publish-version --function-name "$1" >/dev/null
    "$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda wait published-version-active --function-name "$1" --qualifier 1
}

runtime=$(basename "$(readlink -f /usr/bin/python3)")
(cd examples/python-pets && zip -q -X "$work/pets.zip" app.py)
mkdir "$work/empty-python" "$work/empty-c"
echo 'def handler(event, context): return None' >"$work/empty-python/app.py"
(cd "$work/empty-python" && zip -q -X "$work/empty-python.zip" app.py)
gcc -O2 -D_GNU_SOURCE -o "$work/empty-c/bootstrap" examples/c-hello/bootstrap.c
(cd "$work/empty-c" && zip -q -X "$work/empty-c.zip" bootstrap)
# The same pets, but each call takes a second, so that as many clones are alive as there are calls.
printf 'import app, time\ndef handler(event, context):\n    answer = app.handler(event, context)\n    time.sleep(1)\n    return answer\n' \
    >"$work/slow.py"
(cp "$work/pets.zip" "$work/slow-pets.zip" && cd "$work" && zip -q -X slow-pets.zip slow.py)
deploy pets "$runtime" app.handler "$work/pets.zip"
deploy slow-pets "$runtime" slow.handler "$work/slow-pets.zip"
deploy empty-python "$runtime" app.handler "$work/empty-python.zip"
deploy empty-c provided.al2023 none "$work/empty-c.zip"

# deploy_example NAME FUNCTION [option...]: by its own script. Where that cannot be, the reason is said, and it is not measured.
deploy_example() {
    local name=$1
    shift
    "examples/$name/deploy.sh" "$@" >"$work/deploy.log" 2>&1 </dev/null && return 0
    printf '\n%s cannot be deployed here: %s\n' "$name" "$(tail -1 "$work/deploy.log")"
    return 1
}
PATH=$(dirname "$THAW_AWS_CLI"):$PWD/build:$PATH # the scripts call them `aws` and `thaw`

machine
measure "python-pets (an initialisation of half a second, 80,000 objects)" pets:1 -n "$runs" -c 50 \
    --payload @examples/python-pets/event.json
measure "An empty handler in Python" empty-python:1 -n "$runs" -c 50
measure "An empty handler in C (c-hello, provided.al2023)" empty-c:1 -n "$runs" -c 50
some=$((runs < 50 ? runs : 50))
for name in node-api dotnet-pets big-model; do
    deploy_example $name $name || continue
    measure $name $name:1 -n $some -c 10 --payload @examples/$name/event.json
done
for name in petstore petstore-primed; do
    primed=()
    [ $name = petstore ] || primed=(--prime)
    deploy_example spring-petstore "${primed[@]}" $name || continue
    measure "spring-petstore, as $name" $name:1 -n $some -c 10 --payload @examples/spring-petstore/event.json
done
if [ -n "${THAW_BENCH_10_GIB:-}" ] && deploy_example big-model --mb 9728 big-model-10; then
    measure "big-model of nearly 10 GiB" big-model-10:1 -n 10 -c 1 --payload @examples/big-model/event.json
fi
printf '\n### Promised and measured: medians in milliseconds, what is missed in bold\n\n'
/usr/bin/python3 -B bench/goals.py "$work/reports"

printf '\n### 1,000 requests, 50 at once, right after an eviction (`ab -n 1000 -c 50`)\n\n```\n'
build/thaw evict pets:1 >/dev/null
ab -q -n 1000 -c 50 -p examples/python-pets/event.json -T application/json \
    "$THAW_ENDPOINT/2015-03-31/functions/pets/invocations?Qualifier=1" |
    grep -E '^(Complete|Failed|Non-2xx|Requests per|  50%|  90%|  99%| 100%)'
printf '```\n'

printf '\n### Memory of one more idle clone of python-pets\n\n```\n'
/usr/bin/python3 bench/clone_memory.py "$server" slow-pets 1 examples/python-pets/event.json
printf '```\n'

if [ "$thaws" -gt 0 ]; then
    printf '\n### Does anything grow?\n\n```\n'
    /usr/bin/python3 bench/soak.py "$server" empty-c 1 "$thaws"
    printf '```\n'
fi
