#!/usr/bin/env bash
# Measures the main path, on the embedded parts and on Kafka + PostgreSQL, and prints a Markdown table.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$root/deploy/lib.sh"

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

if [[ -n ${POSTERN:-} ]]; then
    [[ -x $POSTERN && -x ${POSTERN_BENCH:-} ]] || die "POSTERN and POSTERN_BENCH must both name a program"
    postern=$(realpath "$POSTERN") generator=$(realpath "$POSTERN_BENCH")
else
    need cargo cargo
    # The embedded broker declares Rust 1.96 and works with 1.95.
    ignore=()
    minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    ((${minor:-96} >= 96)) || ignore=(--ignore-rust-version)
    (cd "$root" && cargo build --release --locked "${ignore[@]}" -p postern -p postern-bench) >&2
    target=${CARGO_TARGET_DIR:-target}
    [[ $target == /* ]] || target=$root/$target
    postern=$target/release/postern generator=$target/release/postern-bench
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/main-path.XXXXXX")
mkdir "$dir/logs"
pids=()
parts=()
table=$dir/table.md
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')

# stop_all: what was started last ends first.
stop_all() {
    local index pid end
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        pid=${pids[index]}
        kill -TERM "$pid" 2>/dev/null || continue
        end=$((SECONDS + 30))
        while kill -0 "$pid" 2>/dev/null; do
            if ((SECONDS >= end)); then
                printf 'main-path.sh: %s did not end within 30 s\n' "$pid" >&2
                kill -KILL "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.1
        done
        wait "$pid" 2>/dev/null || true
    done
    pids=()
    for ((index = ${#parts[@]} - 1; index >= 0; index--)); do
        "$root/deploy/${parts[index]}/${parts[index]}.sh" stop --dir "$dir/${parts[index]}" ||
            "$root/deploy/${parts[index]}/${parts[index]}.sh" kill --dir "$dir/${parts[index]}" || true
    done
    parts=()
}

at_end() {
    local rc=$?
    trap - EXIT
    stop_all
    if ((rc != 0 && rc != 130)); then
        local kept
        kept=$(mktemp -d "${TMPDIR:-/tmp}/main-path-logs.XXXXXX")
        cp -r "$dir/logs/." "$kept/"
        printf 'main-path.sh: the logs are in %s\n' "$kept" >&2
    fi
    rm -rf "$dir"
    exit "$rc"
}
trap at_end EXIT
trap 'exit 130' INT TERM

# start ROLE: starts it with the environment at hand; puts its admin port into $ADMIN.
start() {
    free_port
    ADMIN=$PORT
    POSTERN__ADMIN__LISTEN=127.0.0.1:$ADMIN POSTERN__LOG__FORMAT=json \
        "$postern" "$1" >"$dir/logs/$1.out" 2>"$dir/logs/$1.log" </dev/null &
    pids+=($!)
}

# ready ROLE PORT
ready() {
    local end=$((SECONDS + 60))
    until curl -fsS -o /dev/null "http://127.0.0.1:$2/readyz" 2>/dev/null; do
        if ((SECONDS >= end)) || ! kill -0 "${pids[-1]}" 2>/dev/null; then
            tail -n 20 "$dir/logs/$1.log" >&2
            die "$1 is not ready"
        fi
        sleep 0.1
    done
}

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
    local http started ingress_admin consumer_admin
    started=$("$root/deploy/kafka/kafka.sh" start --dir "$dir/kafka" --brokers "${BROKERS:-1}" --until-exit $$)
    parts+=(kafka)
    export POSTERN__KAFKA__BROKERS=${started#bootstrap=}
    started=$("$root/deploy/postgres/postgres.sh" start --dir "$dir/postgres" --until-exit $$)
    parts+=(postgres)
    export POSTERN__STORE__URL=${started#url=} POSTERN__DATA_DIR=$dir/real POSTERN__CLICKS__TOKEN=$token
    [[ ${BROKERS:-1} != 1 ]] || export POSTERN__KAFKA__ALLOW_SINGLE_REPLICA=true
    "$postern" migrate >"$dir/logs/migrate.log" 2>&1
    "$postern" topics create >"$dir/logs/topics.log" 2>&1
    start consumer
    consumer_admin=$ADMIN
    ready consumer "$consumer_admin"
    free_port
    http=$PORT
    export POSTERN__HTTP__LISTEN=127.0.0.1:$http
    start ingress
    ingress_admin=$ADMIN
    ready ingress "$ingress_admin"
    measure 'Kafka + PostgreSQL' "$http" "$token"
    stop_all
}

for name in "${which[@]}"; do
    "measure_$name"
done

printf '\n' >&2
cat "$table"
printf '\n%s; %s cores; Linux %s; latency from the time at which a request was due.\n' \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)"
