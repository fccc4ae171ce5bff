#!/bin/bash
# Deploys this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publishes a version with SnapStart, and
# calls it. Needs Python with pip or venv, and the thaw command in PATH or in build/. DATA_MB=300 sets the size of its
# data. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
thaw=$(readlink -f "${THAW:-$(command -v thaw || echo ../../build/thaw)}")
name=${1:-python-data}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
if ! "$python" -m pip --version >/dev/null 2>&1; then # Debian has it in a package of its own; a venv brings one
    "$python" -m venv "$work/venv"
    python=$work/venv/bin/python3
fi
"$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-compile --target "$work/package" \
    --no-warn-conflicts --root-user-action ignore -r requirements.txt
# Tests and headers of the libraries are of no use to a function.
find "$work/package" -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
cp app.py "$work/package"

version=$("$thaw" deploy "$work/package" "$name" --runtime "$(basename "$(readlink -f /usr/bin/python3)")" --handler app.handler \
    --memory 1769 --timeout 60 --env "DATA_MB=${DATA_MB:-300}" --json | sed -n 's/^  "version": "\(.*\)",$/\1/p')
"$thaw" invoke "$name:$version" --payload @event.json
echo "deployed $name:$version"
