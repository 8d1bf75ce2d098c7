#!/usr/bin/env bash
# A temporary PostgreSQL on loopback, from Debian's package, for tests and for trying things out.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$here/../lib.sh"

usage() {
    cat <<'TEXT'
usage: postgres.sh start   --dir DIR [--port P|free] [--until-exit PID]
       postgres.sh stop    --dir DIR
       postgres.sh kill    --dir DIR
       postgres.sh freeze|continue --dir DIR
       postgres.sh restart --dir DIR
       postgres.sh status  --dir DIR

start    makes a cluster in DIR, or starts the one that is there on its old port; prints url=postgres://… and
         leaves it running; --until-exit kills it once that process has ended
stop     ends it cleanly, disconnecting its clients
kill     SIGKILL to the server and all its processes, as a crash would
freeze   SIGSTOP to all its processes, until continue sends SIGCONT
restart  stop and start on the same port

The role postern owns the database postern and needs no password. Commits are flushed to disk, as in
production. Called as root, the server runs as the user postgres. The log is DIR/log.

Environment:
  PGBIN   directory of initdb, pg_ctl and postgres   (the newest below /usr/lib/postgresql)
TEXT
}

find_server() {
    bin=${PGBIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)}
    [[ -n $bin && -x $bin/initdb && -x $bin/pg_ctl ]] ||
        die "no PostgreSQL server in '${bin:-/usr/lib/postgresql}'; install it with: apt-get install postgresql"
}

# Sets $as, the words in front of every command of the server: none unless called as root, which initdb
# refuses. The user postgres must get to DIR also where a directory above is closed to it, such as one of
# mktemp -d; it is then given the capability to pass instead of a change of other people's directories.
become() {
    local cap
    as=()
    ((EUID == 0)) || return 0
    id postgres >/dev/null 2>&1 || die "there is no user postgres; install it with: apt-get install postgresql"
    need setpriv util-linux
    chown postgres: "$dir"
    for cap in '' dac_read_search dac_override; do
        as=(setpriv --reuid postgres --regid postgres --init-groups)
        [[ -z $cap ]] || as+=(--inh-caps "+$cap" --ambient-caps "+$cap")
        # shellcheck disable=SC2016 # expanded by the inner shell
        # tried for real: access(2), and with it test(1), leaves such capabilities out
        (cd / && "${as[@]}" bash -c ': >"$0" && rm "$0"' "$dir/.probe") 2>/dev/null && return 0
    done
    die "the user postgres can't get to $dir; choose a --dir whose parents it may pass"
}

load() {
    [[ -n $dir ]] || die "--dir is missing"
    [[ -r $dir/port ]] || die "there is no cluster in $dir"
    dir=$(cd "$dir" && pwd)
    read -r PORT <"$dir/port"
    find_server
    become
}

alive() { running "$dir/data/postmaster.pid" "$dir/data"; }

# cd: the server must not hold, or fail on, the caller's directory.
control() { (cd / && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -s "$@" </dev/null); }

create() {
    # left over from a start that was cut short
    cmd_kill
    rm -rf "$dir/data"
    (cd / && "${as[@]}" "$bin/initdb" -D "$dir/data" -U postern --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
        --no-instructions >"$dir/initdb.log" 2>&1) || {
        cat "$dir/initdb.log" >&2
        die "initdb failed"
    }
    # A socket's path is limited to 107 bytes.
    local sockets=$dir
    ((${#dir} <= 85)) || sockets=
    cat >>"$dir/data/postgresql.conf" <<TEXT

listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
max_connections = 200
fsync = on
synchronous_commit = on
log_line_prefix = '%m [%p] '
lc_messages = 'C'
timezone = 'UTC'
TEXT
}

launch() {
    local log=$dir/log
    [[ -e $log ]] || : >"$log"
    if ((EUID == 0)); then chown postgres: "$log"; fi
    from=$(stat -c %s "$log")
    control -w -t 60 -l "$log" -o "-p $PORT" start >/dev/null 2>&1
}

failed() {
    tail -c "+$((from + 1))" "$dir/log" | tail -n 20 >&2
    die "PostgreSQL did not start, see $dir/log"
}

cmd_start() {
    local attempt
    [[ -n $dir ]] || die "--dir is missing"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    [[ $dir != *[[:space:]]* && $dir != *\'* ]] || die "--dir may not contain blanks or quotes: $dir"
    if [[ -e $dir/port ]]; then
        load
        alive || launch || failed
    else
        find_server
        become
        if [[ $port != free ]]; then
            valid_port "$port"
            if port_taken "$port"; then die "port $port is taken"; fi
        fi
        create
        for ((attempt = 1; ; attempt++)); do
            PORT=$port
            if [[ $port == free ]]; then free_port; fi
            launch && break
            tail -c "+$((from + 1))" "$dir/log" | grep -F 'could not bind' >/dev/null || failed
            [[ $port == free && $attempt -lt 5 ]] || failed
        done
        (cd / && "$bin/createdb" -h 127.0.0.1 -p "$PORT" -U postern postern) || {
            control -m immediate stop || true
            die "could not create the database"
        }
        printf '%s\n' "$PORT" >"$dir/port.new"
        mv "$dir/port.new" "$dir/port"
    fi
    if [[ -n $until_exit ]]; then stop_after "$until_exit" "$here/postgres.sh" kill --dir "$dir"; fi
    url
}

url() { printf 'url=postgres://postern@127.0.0.1:%s/postern\n' "$PORT"; }

cmd_stop() {
    alive || return 0
    control -m fast -w -t 60 stop >/dev/null 2>&1 || die "PostgreSQL did not stop within 60 s, see $dir/log"
}

cmd_kill() {
    local server end=$((SECONDS + 10)) children
    alive || return 0
    server=$PID
    children=$(cat "/proc/$server/task/$server/children" 2>/dev/null || true)
    # shellcheck disable=SC2086 # a list of pids
    kill -KILL "$server" $children 2>/dev/null || true
    # The next start needs all of them gone. One that was forked in between ends when it misses the server.
    # shellcheck disable=SC2086
    while alive || kill -0 $children 2>/dev/null; do
        ((SECONDS < end)) || die "PostgreSQL can't be killed"
        sleep 0.05
    done
}

# signal_all SIGNAL: to the server first, so that it starts nothing meanwhile.
signal_all() {
    alive || die "PostgreSQL does not run"
    kill "-$1" "$PID"
    local child
    # shellcheck disable=SC2013 # one line of pids
    for child in $(cat "/proc/$PID/task/$PID/children"); do kill "-$1" "$child" 2>/dev/null || true; done
}

command=${1:-}
[[ $# -gt 0 ]] && shift
dir='' port=free until_exit='' bin='' as=() from=0

while [[ $# -gt 0 ]]; do
    case $1 in
        --dir | --port | --until-exit) [[ $# -ge 2 ]] || die "$1 needs a value" ;;&
        --dir) dir=$2 ;;
        --port) port=$2 ;;
        --until-exit) until_exit=$2 ;;
        -h | --help) usage; exit 0 ;;
        *) die "unknown argument '$1' (see postgres.sh --help)" ;;
    esac
    shift 2
done

case $command in
    start) cmd_start ;;
    stop) load; cmd_stop ;;
    kill) load; cmd_kill ;;
    freeze) load; signal_all STOP ;;
    continue) load; signal_all CONT ;;
    restart) load; cmd_stop; launch || failed; url ;;
    status)
        load
        alive || { echo stopped; exit 1; }
        url
        ;;
    -h | --help | help) usage ;;
    '') usage >&2; exit 2 ;;
    *) die "unknown command '$command' (see postgres.sh --help)" ;;
esac
