# A thawd of one's own on a temporary folder, $work, for as long as the script runs, and a way to measure on it. Sourced.

work=$(mktemp -d /tmp/thaw-bench-XXXXXX)
chmod 755 "$work"
server=

finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    [ "$code" = 0 ] || tail -20 "$work/thawd.log" >&2
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT INT TERM

export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench AWS_DEFAULT_REGION=us-east-1 AWS_PAGER= AWS_EC2_METADATA_DISABLED=true
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export THAW_ENDPOINT=http://127.0.0.1:$port
build/thawd --listen "127.0.0.1:$port" --data "$work/data" >"$work/thawd.log" 2>&1 </dev/null &
server=$!
until build/thaw functions >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done

# Which machine this is: figures mean nothing without.
machine() {
    printf 'Measured %s, %s processors, %s, kernel %s, thaw %s.\n' "$(date -u +%Y-%m-%d)" "$(nproc)" \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(uname -r)" "$(build/thaw --version | cut -d' ' -f2)"
}

# measure TITLE FUNCTION:VERSION [option...]; the report is also kept, as $work/reports/FUNCTION.txt
mkdir "$work/reports"
measure() {
    printf '\n### %s\n\n```\n' "$1"
    shift
    build/thaw bench "$@" | tee "$work/reports/${1%:*}.txt"
    printf '```\n'
}
