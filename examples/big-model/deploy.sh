#!/bin/bash
# Deploys this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publishes a version with SnapStart, and
# calls it. Needs the thaw command, in PATH or in build/, and the host's python3.
# deploy.sh [--mb N] [--file-mb N] [FUNCTION-NAME]
#   --mb N        the model in the process's memory, in MB (default 1024; the function gets 256 MB more)
#   --file-mb N   the model that is mapped from the package (default 128; all of a package may have 250 MB)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
thaw=$(readlink -f "${THAW:-$(command -v thaw || echo ../../build/thaw)}")
mb=1024
file_mb=128
name=big-model
while [ $# -gt 0 ]; do
    case $1 in
        --mb) mb=$2 && shift ;;
        --file-mb) file_mb=$2 && shift ;;
        -*) sed -n '2,7s/^# //p' "$0" >&2 && exit 2 ;;
        *) name=$1 ;;
    esac
    shift
done
memory=$((mb + 256))
[ "$memory" -le 10240 ] || memory=10240 # as much as Lambda's functions may have

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp app.py event.json "$work"
# Weights that repeat, so that the package is small while the file is not.
/usr/bin/python3 - "$work/model.bin" "$file_mb" <<'PYTHON'
import os, struct, sys
block = os.urandom(4096) * 256
with open(sys.argv[1], "wb") as file:
    for number in range(int(sys.argv[2])):
        file.write(struct.pack("<Q", number) + block[8:])
PYTHON
"$thaw" deploy "$work" "$name" --runtime "$(basename "$(readlink -f /usr/bin/python3)")" --handler app.handler \
    --memory "$memory" --timeout 300 --env "MODEL_MB=$mb"
"$thaw" invoke "$name" --payload @event.json
