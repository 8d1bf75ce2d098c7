#!/usr/bin/env bash
# Measures the main path, on the embedded parts and on Kafka + PostgreSQL, and prints a Markdown table.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$root/deploy/lib.sh"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

usage() {
    cat <<'TEXT'
usage: main-path.sh [standalone] [real]

standalone   one process with the embedded parts
real         Kafka and PostgreSQL, with ingress and consumer as processes of their own
Without a name both are measured. Builds the release binaries first.

Environment:
  RATE          postbacks per second                          (500)
  SECONDS_RUN   how long is measured                          (30)
  WARMUP        seconds of the same load before               (5)
  CONNECTIONS   kept alive                                    (32)
  RUNS          how often each is measured, on the same data  (1)
  BROKERS       Kafka brokers, 1 or 3                         (1)
  POSTERN       this binary instead of one that is built; then POSTERN_BENCH too
  POSTERN_BENCH the generator
  JSON          a file to which every run is added as a line of JSON
  TMPDIR        where all data is put, and removed at the end

When a process fails to start or a run goes wrong, the logs are kept and named.
TEXT
}

which=()
for name in "$@"; do
    case $name in
        standalone | real) which+=("$name") ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
((${#which[@]} > 0)) || which=(standalone real)

need curl curl

json=${JSON:-}
[[ $json == '' || $json == /* ]] || json=$PWD/$json

use_programs
begin main-path
table=$dir/table.md
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')

# measure LABEL PORT TOKEN
measure() {
    local run
    for ((run = 1; run <= ${RUNS:-1}; run++)); do
        printf '\n== %s, run %s\n' "$1" "$run" >&2
        "$generator" --ingress "http://127.0.0.1:$2" --token "$3" --label "$1" --append "$table" \
            --rate "${RATE:-500}" --seconds "${SECONDS_RUN:-30}" --warmup "${WARMUP:-5}" \
            --connections "${CONNECTIONS:-32}" >"$dir/run.json" &
        # waited for, so that a signal is heard at once
        pids+=($!)
        wait "${pids[-1]}"
        unset 'pids[-1]'
        [[ -z $json ]] || cat "$dir/run.json" >>"$json"
    done
}

measure_standalone() {
    local http admin
    free_port
    http=$PORT
    export POSTERN__HTTP__LISTEN=127.0.0.1:$http POSTERN__BROKER__LISTEN=127.0.0.1:0 \
        POSTERN__DATA_DIR=$dir/standalone POSTERN__CLICKS__TOKEN=$token
    start standalone
    admin=$ADMIN
    ready standalone "$admin"
    measure standalone "$http" "$token"
    unset POSTERN__HTTP__LISTEN POSTERN__BROKER__LISTEN POSTERN__DATA_DIR POSTERN__CLICKS__TOKEN
    stop_all
}

measure_real() {
    start_parts "$dir/postgres"
    start_roles
    measure 'Kafka + PostgreSQL' "$INGRESS" "$token"
    stop_all
}

for name in "${which[@]}"; do
    "measure_$name"
done

printf '\n' >&2
cat "$table"
printf '\n%s; %s cores; Linux %s; latency from the time at which a request was due.\n' \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)"
