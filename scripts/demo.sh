#!/bin/bash
# The demonstration: a server of its own on a temporary directory and a free port, examples/python-pets deployed with
# the real AWS CLI, published with SnapStart, and measured. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

bold=$(test -t 1 && [ -z "${NO_COLOR:-}" ] && printf '\033[1m' || true)
plain=$(test -n "$bold" && printf '\033[0m' || true)

step() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# Print a command as one would type it.
print_command() {
    printf '%s\n' "${*//$THAW_AWS_CLI/aws}" | sed "s|$work|.|g; s|^$build/|build/|" | fold -s -w 108 |
        sed '$!s/ *$/ \\/; 1s/^/  $ /; 2,$s/^/      /'
}

# show COMMAND...: print it and run it.
show() {
    print_command "$@"
    "$@" | sed 's/^/    /'
}

stop_server() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "${server:-}" ] && kill -0 "$server" 2>/dev/null; then
        kill -TERM "$server"
        wait "$server" || code=$?
        [ "$code" != 0 ] || step "Stopped. Nothing is left behind: no process, no mount, no file."
    fi
    [ "$code" = 0 ] || tail -5 "$work/thawd.log" >&2
    rm -rf "$work"
    exit "$code"
}

wait_for_server() {
    for _ in $(seq 300); do
        "$build/thaw" functions >/dev/null 2>&1 && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "thawd did not start:" >&2
    cat "$work/thawd.log" >&2
    return 1
}

aws_lambda() {
    show "$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda "$@"
}

start_server() {
    step "1. A server, on a temporary directory"
    # The system picks a free port; nobody else takes it in the moment until thawd does.
    port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export THAW_ENDPOINT=http://127.0.0.1:$port
    printf '  $ sudo build/thawd --listen 127.0.0.1:%s --data ./data\n' "$port"
    "$build/thawd" --listen "127.0.0.1:$port" --data "$work/data" --runtimes "$PWD/runtimes" >"$work/thawd.log" 2>&1 </dev/null &
    server=$!
    wait_for_server
}

deploy() {
    step "2. A function, deployed with the AWS CLI: a pet shop that builds its catalogue when it is loaded"
    (cd examples/python-pets && zip -q -X "$work/pets.zip" app.py)
    aws_lambda create-function --function-name pets --runtime "$runtime" --handler app.handler \
        --role arn:aws:iam::000000000000:role/any --zip-file "fileb://$work/pets.zip" \
        --snap-start ApplyOn=PublishedVersions --memory-size 1769 --timeout 30 \
        --query '[FunctionName,Runtime,State]' --output text
    step "3. A version: initialised once, frozen, sealed on disk"
    aws_lambda publish-version --function-name pets --query '[Version,State]' --output text
    "$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda wait published-version-active --function-name pets --qualifier 1
    show "$build/thaw" functions
    show "$build/thaw" inspect pets:1 | sed -n 1,12p
}

invoke() {
    step "4. The same function, started the slow way (\$LATEST, cold) and the fast way (version 1, thawed)"
    local name command round=0
    for name in pets pets:1 pets:1; do
        "$build/thaw" evict "$name" >/dev/null
        ((++round < 3)) || printf '  and again: the first thaw built a template in memory, every one after that forks it\n'
        command=("$THAW_AWS_CLI" --endpoint-url "$THAW_ENDPOINT" lambda invoke --function-name "$name" --log-type Tail
            --payload fileb://examples/python-pets/event.json --query LogResult --output text "$work/out.json")
        print_command "${command[@]}" '| base64 -d'
        "${command[@]}" | base64 -d | grep -aE '^(INIT_START|RESTORE_REPORT|REPORT)' |
            sed 's/\t/ /g; s/RequestId: [^ ]* //; s/Runtime Version ARN.*//; s/^/    /'
    done
    printf '  it answers: %s...\n' "$(cut -c1-100 "$work/out.json")"
}

measure() {
    step "5. Side by side"
    show "$build/thaw" bench pets:1 -n "${runs}" -c 20 --payload @examples/python-pets/event.json
}

runs=${1:-30}
build=${THAW_BUILD:-build}
runtime=$(basename "$(readlink -f /usr/bin/python3)")
work=$(mktemp -d /tmp/thaw-demo-XXXXXX)
chmod 755 "$work"
server=
export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION=us-east-1 AWS_PAGER= AWS_EC2_METADATA_DISABLED=true
trap stop_server EXIT INT TERM
start_server
deploy
invoke
measure
