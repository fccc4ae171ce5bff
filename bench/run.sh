#!/bin/bash
# Measures the figures that this project promises, on this machine, and prints them as Markdown.
# usage: ./run bench [RUNS [THAWS]]   (default 100 runs of each kind; 20000 thaws in search of leaks, 0 for none)
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

machine
measure "python-pets (an initialisation of half a second, 80,000 objects)" pets:1 -n "$runs" -c 50 \
    --payload @examples/python-pets/event.json
measure "An empty handler in Python" empty-python:1 -n "$runs" -c 50
measure "An empty handler in C (provided.al2023)" empty-c:1 -n "$runs" -c 50

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
