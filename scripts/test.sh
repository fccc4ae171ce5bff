# The tests of ./run test, one after the other, and the line that sums them up. Sourced by ./run.

passed=0
failed=0

# Each check of the light lint counts as one test.
test_lint() {
    source scripts/lint.sh
    lint_light_checks
    passed=$((passed + lint_passed))
    failed=$((failed + lint_failed))
}

# test_meson FOLDER [meson test option...]
test_meson() {
    local folder=$1 log=$1/test.log ok bad
    shift
    say "unit and engine tests in $folder"
    # A test of the engine times nothing, but it needs the processor: so one at a time on a small machine.
    ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        meson test -C "$folder" --no-rebuild --print-errorlogs --timeout-multiplier 5 "$@" </dev/null 2>&1 | tee "$log" || true
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log")
    bad=$(sed -n 's/^\(Fail\|Timeout\|Unexpected Pass\|Skipped\): *\([0-9]*\).*/\2/p' "$log" | paste -sd+ | bc_sum)
    if [ -z "$ok" ]; then # Nothing was run to its end: that is a failure, whatever was printed.
        ok=0
        bad=1
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
}

bc_sum() { # the value of a sum on standard input
    local sum
    read -r sum || true
    echo $((${sum:-0}))
}

# test_pytest [pytest option or path...]
test_pytest() {
    local log=build/pytest.log
    say "behaviour tests"
    PYTHONDONTWRITEBYTECODE=1 build/venv/bin/python -m pytest -p no:cacheprovider -q --tb=short --durations=10 "$@" \
        </dev/null 2>&1 | tee "$log" || true
    local last
    last=$(grep -E '^[=]* ?([0-9]+ (passed|failed|errors?|skipped|xfailed|xpassed|warnings?|deselected)(, )?)+ in ' "$log" | tail -1 || true)
    if [ -z "$last" ]; then
        failed=$((failed + 1)) # pytest itself broke off
        return
    fi
    passed=$((passed + $(count_of passed "$last")))
    # A skipped test tells nothing, so it does not pass.
    local word
    for word in failed 'errors\?' skipped xpassed; do
        failed=$((failed + $(count_of "$word" "$last")))
    done
}

# Ahead of their tests, which have a limit of time: on a new machine this takes minutes.
build_clients() {
    say "building the functions of the official clients"
    PYTHONDONTWRITEBYTECODE=1 build/venv/bin/python tests/official_clients.py </dev/null ||
        echo "their tests will say what is wrong"
}

count_of() { # WORD LINE: the number before WORD in LINE, or 0
    local found
    found=$(sed -n "s/.*\b\([0-9]\+\) $1\b.*/\1/p" <<<"$2")
    echo "${found:-0}"
}

# With arguments: only pytest, on those (./run test tests/api/test_boto3.py -k invoke).
run_all_tests() {
    if [ $# -gt 0 ]; then
        test_pytest "$@"
    else
        test_lint
        test_meson build --num-processes 1
        test_meson build-asan --suite unit
        build_clients
        test_pytest tests/api tests/chaos
    fi
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
