#!/bin/bash
# Builds and runs every target of tests/fuzz for some seconds each, one after the other. New inputs are kept in
# build-fuzz/corpus, and are where the next run goes on; tests/fuzz/corpus/NAME/ holds seeds and old findings.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
source scripts/common.sh

seconds=$1
mkdir -p build-fuzz
passed=0
failed=0
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    files=()
    libraries=()
    for word in $(sed -n '1s/^\/\* fuzz: //p' "$source"); do
        case $word in
        -l*) libraries+=("$word") ;;
        *.c) files+=("$word") ;;
        *) files+=("$word"/*.c) ;;
        esac
    done
    say "$name: $seconds s"
    clang -std=gnu17 -D_GNU_SOURCE '-DTHAW_VERSION="fuzz"' -g -O1 -fno-omit-frame-pointer \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-unknown-warning-option \
        -Isrc -o "build-fuzz/$name" "$source" "${files[@]}" "${libraries[@]}"
    mkdir -p "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name"
    if "build-fuzz/$name" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/$name-" "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" \
        >"build-fuzz/$name.log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: */   inputs tried: /p' "build-fuzz/$name.log"
        passed=$((passed + 1))
    else
        tail -40 "build-fuzz/$name.log"
        failed=$((failed + 1))
    fi
    rmdir --ignore-fail-on-non-empty "tests/fuzz/corpus/$name"
done
rmdir --ignore-fail-on-non-empty tests/fuzz/corpus 2>/dev/null || true
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
