#!/bin/bash
# Builds this example, deploys it to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publishes a version with
# SnapStart, and calls it. Needs a C compiler, and the thaw command in PATH or in build/. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
thaw=$(readlink -f "${THAW:-$(command -v thaw || echo ../../build/thaw)}")
name=${1:-c-hello}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -static -o "$work/bootstrap" bootstrap.c

version=$("$thaw" deploy "$work" "$name" --runtime provided.al2023 --handler bootstrap --json | sed -n 's/^  "version": "\(.*\)",$/\1/p')
"$thaw" invoke "$name:$version" --payload @event.json
echo "deployed $name:$version"
