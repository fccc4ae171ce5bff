#!/bin/bash
# Measures what the snapshot store promises, and prints it beside the goals. usage: ./run bench store [RUNS] [--only PART,...] [--json FILE]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
exec build/venv/bin/python -B bench/store/figures.py "$@"
