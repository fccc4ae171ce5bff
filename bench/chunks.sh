#!/bin/bash
# What chunk sizes and codecs are worth on snapshots of the examples, each published twice with one changed line, as Markdown.
# usage: ./run bench chunks   (needs npm and Maven; store-chunks alone measures the data folder of any thawd that has ended)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source bench/server.sh
export THAW=$PWD/build/thaw

twice() { # NAME CHANGED-FILE SED-SCRIPT COMMAND...: runs the command, changes the file, runs it again
    local name=$1 file=$2 change=$3
    shift 3
    for _ in 1 2; do
        if ! "$@" >"$work/deploy.log" 2>&1 </dev/null; then
            cat "$work/deploy.log" >&2
            exit 1
        fi
        labels+=("$name")
        sed -i "$change" "$file"
    done
}

labels=()
mkdir "$work/src"
cp -r examples/python-pets examples/node-api examples/spring-petstore "$work/src"
(cd "$work/src/node-api" && npm install --omit=dev --no-audit --no-fund --no-package-lock --silent)
twice python-pets "$work/src/python-pets/app.py" '$a # changed' build/thaw deploy "$work/src/python-pets" python-pets --memory 1769
twice node-api "$work/src/node-api/index.js" '$a // changed' build/thaw deploy "$work/src/node-api" node-api
twice spring-petstore "$work/src/spring-petstore/src/main/java/pets/StreamLambdaHandler.java" \
    's/^public class .*{/& static final String CHANGED = "";/; s/""/"changed"/' "$work/src/spring-petstore/deploy.sh" spring-petstore
kill -TERM "$server"
wait "$server" || true
server=
machine
echo
build/store-chunks "$work/data" "${labels[@]}"
