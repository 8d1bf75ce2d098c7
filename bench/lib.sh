# shellcheck shell=bash
# What the measuring scripts share: the programs, and processes that end with the script. Sourced, not run, after
# deploy/lib.sh; $root is the repository.

# shellcheck disable=SC2034 # read by the scripts
use_programs() {
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
}

# begin NAME: makes $dir, which is removed at the end with all that was started.
begin() {
    bench=$1
    dir=$(mktemp -d "${TMPDIR:-/tmp}/$bench.XXXXXX")
    mkdir "$dir/logs"
    trap at_end EXIT
    trap 'exit 130' INT TERM
}

pids=()
parts=()

# stop_all: what was started last ends first.
stop_all() {
    local index pid end part at
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        pid=${pids[index]}
        kill -TERM "$pid" 2>/dev/null || continue
        end=$((SECONDS + 30))
        while kill -0 "$pid" 2>/dev/null; do
            if ((SECONDS >= end)); then
                printf '%s: %s did not end within 30 s\n' "${0##*/}" "$pid" >&2
                kill -KILL "$pid" 2>/dev/null || true
                break
            fi
            sleep 0.1
        done
        wait "$pid" 2>/dev/null || true
    done
    pids=()
    for ((index = ${#parts[@]} - 1; index >= 0; index--)); do
        part=${parts[index]%%=*} at=${parts[index]#*=}
        "$root/deploy/$part/$part.sh" stop --dir "$at" || "$root/deploy/$part/$part.sh" kill --dir "$at" || true
    done
    parts=()
}

at_end() {
    local rc=$?
    trap - EXIT
    stop_all
    if ((rc != 0 && rc != 130)); then
        local kept
        kept=$(mktemp -d "${TMPDIR:-/tmp}/$bench-logs.XXXXXX")
        cp -r "$dir/logs/." "$kept/"
        printf '%s: the logs are in %s\n' "${0##*/}" "$kept" >&2
    fi
    rm -rf "$dir"
    exit "$rc"
}

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

# start_parts POSTGRES_DIR: Kafka and PostgreSQL, and what every role is told of them.
start_parts() {
    local started
    started=$("$root/deploy/kafka/kafka.sh" start --dir "$dir/kafka" --until-exit $$)
    parts+=("kafka=$dir/kafka")
    export POSTERN__KAFKA__BROKERS=${started#bootstrap=}
    started=$("$root/deploy/postgres/postgres.sh" start --dir "$1" --until-exit $$)
    parts+=("postgres=$1")
    url=${started#url=}
    export POSTERN__STORE__URL=$url POSTERN__DATA_DIR=$dir/real POSTERN__CLICKS__TOKEN=$token
    export POSTERN__KAFKA__ALLOW_SINGLE_REPLICA=true
    "$postern" migrate >"$dir/logs/migrate.log" 2>&1
    "$postern" topics create >"$dir/logs/topics.log" 2>&1
}

# start_roles: consumer and ingress; puts the ingress' port into $INGRESS.
start_roles() {
    start consumer
    ready consumer "$ADMIN"
    free_port
    INGRESS=$PORT
    export POSTERN__HTTP__LISTEN=127.0.0.1:$INGRESS
    start ingress
    ready ingress "$ADMIN"
}
