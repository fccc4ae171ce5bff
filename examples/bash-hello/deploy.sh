#!/bin/bash
# Deploys this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publishes a version with SnapStart, and
# calls it. Needs the thaw command, in PATH or in build/. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
thaw=${THAW:-$(command -v thaw || echo ../../build/thaw)}
name=${1:-bash-hello}
"$thaw" deploy . "$name" --runtime provided.al2023 --handler function.handler
"$thaw" invoke "$name" --payload @event.json
