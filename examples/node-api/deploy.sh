#!/bin/bash
# Deploys this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publishes a version with SnapStart, and
# calls it. Needs npm, and the thaw command in PATH or in build/. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
thaw=$(readlink -f "${THAW:-$(command -v thaw || echo ../../build/thaw)}")
name=${1:-node-api}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json index.js event.json "$work"
(cd "$work" && npm install --omit=dev --no-audit --no-fund --no-package-lock --silent)

version=$("$thaw" deploy "$work" "$name" --json | sed -n 's/^  "version": "\(.*\)",$/\1/p')
"$thaw" invoke "$name:$version" --payload @event.json
echo "deployed $name:$version"
