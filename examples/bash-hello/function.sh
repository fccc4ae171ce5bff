# What takes a while, once: all primes below this.
limit=50000
primes=()
composite=()
for ((n = 2; n < limit; n++)); do
    [ -z "${composite[n]:-}" ] || continue
    primes+=("$n")
    for ((m = n * n; m < limit; m += n)); do composite[m]=1; done
done
unset composite

# A child that lives beside the function, and counts.
coproc COUNTER { count=0; while read -r _; do echo $((++count)); done; }

# Takes the event, prints the answer.
handler() {
    local name=world count
    [[ $1 =~ \"name\":\ *\"([^\"]*)\" ]] && name=${BASH_REMATCH[1]}
    [[ $name != nobody ]] || return 1
    echo "greeting $name" >&2
    echo >&"${COUNTER[1]}"
    read -r count <&"${COUNTER[0]}"
    printf '{"greeting": "Hello, %s!", "primes": %d, "largest": %d, "calls": %d, "counted_by": %d, "shell": %d}\n' \
        "$name" "${#primes[@]}" "${primes[-1]}" "$count" "$COUNTER_PID" $$
}
