# The checks of ./run lint. The light ones take seconds and are a part of ./run test. Sourced by ./run.

lint_passed=0
lint_failed=0

# check NAME FUNCTION: the function prints what is wrong; nothing printed means that all is well.
check() {
    local found
    found=$("$2" 2>&1) || true
    if [ -z "$found" ]; then
        lint_passed=$((lint_passed + 1))
    else
        lint_failed=$((lint_failed + 1))
        printf 'lint: %s:\n%s\n' "$1" "$found" >&2
    fi
}

lint_light_checks() {
    say "format and house rules"
    check "not as clang-format writes it (./run fmt mends it)" check_format
    check "a room without its one-line README.md" check_room_readmes
    check "a header without #pragma once" check_pragma_once
    check "a room includes what it has not declared" check_room_includes
    check "cli may use base, libcurl, the probe of sandbox, and process, nothing else" check_cli_includes
    check "functions that write without a bound" check_string_functions
    check "unfinished work left in the text" check_unfinished
    check "a shell script that does not parse" check_shell
    check "a document links to a file that is not there" check_links
    check "the table of docs/SNAPSHOT.md and the engine's tests" check_conformance
}

lint_light() {
    lint_light_checks
    [ "$lint_failed" = 0 ] || fail "$lint_failed of $((lint_passed + lint_failed)) light checks failed"
}

check_format() {
    c_files | xargs -0 -r build/venv/bin/clang-format --dry-run -Werror 2>&1 | grep -E 'error:' | cut -c1-160 | head -20
}

check_room_readmes() {
    local room
    for room in src/*/; do
        [ -z "$(ls "$room"*.c 2>/dev/null)" ] || [ -f "${room}README.md" ] || echo "$room"
    done
}

check_pragma_once() {
    find src -name '*.h' -print0 | xargs -0 -r grep -L '^#pragma once'
}

# The build's include paths enforce this for libraries; here it is said in words, for every quoted include.
check_room_includes() {
    local room uses include file
    while IFS=: read -r room uses; do
        while IFS=: read -r file include; do
            include=${include#*\"}
            include=${include%%/*}
            [[ " $room $uses " == *" $include "* ]] || echo "$file includes $include/"
        done < <(grep -rHo '^#include "[a-z_]*/' "src/$room" --include='*.[ch]' || true)
    done < <(sed -n "s/^  '\([a-z]*\)': {'uses': \[\(.*\)\], 'libs'.*/\1:\2/p" meson.build | tr -d "',")
}

check_cli_includes() {
    grep -rn '^#include "' src/cli --include='*.[ch]' | grep -vE '"(base|cli|libcurl)/|"sandbox/probe\.h"|"process/process\.h"'
}

check_string_functions() {
    grep -rnE '\b(strcpy|strcat|sprintf|vsprintf|gets)\(' src runtimes --include='*.[ch]'
}

check_unfinished() {
    grep -rnE '\b(TODO|FIXME|XXX|HACK)\b' src runtimes tests examples docs README.md --include='*.[chS]' --include='*.py' --include='*.md'
}

check_shell() {
    local script
    for script in run .ci/run scripts/*.sh bench/*.sh; do
        bash -n "$script" || echo "$script"
    done
}

check_conformance() {
    /usr/bin/env python3 -B tests/engine/table.py
}

check_links() {
    local file target
    while IFS=: read -r file target; do
        target=${target#](}
        target=${target%)}
        target=${target%%#*}
        [ -z "$target" ] || [ -e "$(dirname "$file")/$target" ] || echo "$file: $target"
    done < <(grep -oHE '\]\([^)]*\)' README.md docs/*.md | grep -v '](http')
}

lint_tidy() {
    say "clang-tidy"
    local found
    # GCC's flags that clang does not know are no finding.
    if ! found=$(find src -name '*.c' ! -path 'src/thaw/blob/*' -print0 | LC_ALL=C sort -z |
        xargs -0 -P "$(nproc)" -n 4 clang-tidy -p build --quiet --extra-arg=-Wno-unknown-warning-option 2>build/tidy.err); then
        printf '%s\n' "$found" >&2
        fail "clang-tidy has findings"
    fi
    say "clean"
}
