#!/usr/bin/env bash
# Compares layouts of PostgreSQL's clicks table: lookups, inserts, size, expiry.
# Starts a temporary cluster, reached by its socket only, and removes it at the end.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bench-clicks.sh [-h]

Environment:
  ROWS             clicks in each layout, over 30 days    (3000000; 300000 for a quick run)
  ROUNDS           rounds of 50 lookup batches, up to 6   (6)
  DAYS             days expired and refilled, up to 7     (5)
  SHARED_BUFFERS   of the temporary cluster               (1GB)
  PGBIN            directory of initdb, pg_ctl, psql      (newest below /usr/lib/postgresql)
  TMPDIR           where the cluster is put; 3 million clicks need about 15 GB

Called as root it runs the server as user postgres.
TEXT
}

case "${1:-}" in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

ROWS=${ROWS:-3000000}
ROUNDS=${ROUNDS:-6}
DAYS=${DAYS:-5}
SHARED_BUFFERS=${SHARED_BUFFERS:-1GB}
BATCH=5000

fail() { echo "bench-clicks: $*" >&2; exit 1; }

if [ -z "${PGBIN:-}" ]; then
    PGBIN=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
fi
[ -x "$PGBIN/initdb" ] || fail "no initdb in '$PGBIN': install the package postgresql or set PGBIN"
[[ "$ROUNDS" =~ ^[1-6]$ ]] || fail "ROUNDS is 1 to 6"
[[ "$DAYS" =~ ^[1-7]$ ]] || fail "DAYS is 1 to 7"

sql=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/bench-clicks
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench-clicks.XXXXXX")

server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

cleanup() {
    [ ! -f "$dir/data/postmaster.pid" ] || server "$PGBIN/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

q() { "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -U postgres -d postgres "$@"; }
run() { q -c "$1" >/dev/null; }
step() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }

[ "$(id -u)" != 0 ] || chown postgres "$dir"
server "$PGBIN/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 >/dev/null
# No autovacuum and no checkpoint but those asked for: they would hit the layouts unevenly.
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
shared_buffers = $SHARED_BUFFERS
fsync = on
synchronous_commit = on
jit = off
autovacuum = off
checkpoint_timeout = 1d
max_wal_size = 16GB
max_parallel_workers_per_gather = 0
timezone = 'UTC'
CONF
server "$PGBIN/pg_ctl" -D "$dir/data" -w -l "$dir/data/log" start >/dev/null || { cat "$dir/data/log" >&2; fail "server does not start"; }

step "filling six layouts with $ROWS clicks each"
q -v rows="$ROWS" -f "$sql/layouts.sql"
q -f "$sql/lookups.sql" >/dev/null
q -f "$sql/inserts.sql"
q -f "$sql/expiry.sql"

layouts=(flat_btree daily weekly hash16 flat_brin hash32)

step "lookups"
for round in $(seq "$ROUNDS"); do
    first=$((round * 50 - 49)) last=$((round * 50))
    for layout in "${layouts[@]}"; do
        run "CALL warm('$layout')"
        for form in any join; do
            run "CALL measure_lookups('idle', '$layout', '$form', 1000, $first, $last)"
            run "CALL measure_lookups('idle', '$layout', '$form', 100, $first, $last)"
        done
    done
done

# A day of clicks in one checkpoint cycle, in fifths, the layouts taking turns.
step "inserts"
fifth=$((ROWS / 30 / 5 / 1000 * 1000))
[ "$fifth" -gt 0 ] || fifth=1000
run CHECKPOINT
for round in 1 2 3 4 5; do
    for layout in "${layouts[@]}"; do
        run "CALL warm('$layout')"
        run "CALL measure_inserts('idle', '$layout', 'plain', $round, $fifth)"
    done
done
run CHECKPOINT
for round in 1 2 3 4 5; do
    for layout in weekly daily; do
        run "CALL warm('$layout')"
        run "CALL measure_inserts('idle', '$layout', 'guarded', $round, $fifth)"
    done
done

cutoff() { echo "expired_before($1)"; }
form_of() { case $1 in flat_brin) echo brin ;; *) echo from ;; esac; }

# Once before the first round: afterwards every round finds exactly one day to expire.
step "expiry"
for layout in flat_btree flat_brin hash16 hash32; do
    run "CALL measure_deletes('first', '$layout', '$(form_of "$layout")', 0, $(cutoff 0), $BATCH)"
    run "VACUUM $layout"
done
run "CALL measure_drops('first', 'daily', 0, $(cutoff 0), 0)"
for round in $(seq "$DAYS"); do
    for layout in flat_btree flat_brin hash16 hash32; do
        run "CALL warm('$layout')"
        run "CALL measure_deletes('idle', '$layout', '$(form_of "$layout")', $round, $(cutoff "$round"), $BATCH)"
        q >/dev/null <<SQL
SELECT clock_timestamp() AS t0 \gset
VACUUM $layout;
INSERT INTO vacuum_sample
SELECT '$layout', $round, extract(epoch FROM clock_timestamp() - :'t0'::timestamptz) * 1000,
       (SELECT sum(pg_total_relation_size(leaf)) FROM leaves('$layout') leaf);
SQL
        run "CALL measure_inserts('refill', '$layout', 'plain', $round, $((fifth * 5)))"
    done
    run "CALL measure_drops('idle', 'daily', $round, $(cutoff "$round"), 0)"
    run "CALL measure_drops('idle', 'weekly', $round, $(cutoff "$round"), 0)"
done

# What a forgotten transaction or a long dump does to a delete that starts from the index's end.
step "expiry under an old snapshot"
mkfifo "$dir/hold"
q <"$dir/hold" >/dev/null &
holder=$!
exec 3>"$dir/hold"
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM settings;" >&3
until [ "$(q -At -c "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")" = 1 ]; do :; done
run "CALL measure_deletes('old snapshot', 'flat_btree', 'from', 1, $(cutoff $((DAYS + 1))), 1000)"
run "CALL measure_deletes('old snapshot', 'flat_btree', 'naive', 2, $(cutoff $((DAYS + 2))), 1000)"
exec 3>&-
wait "$holder"

step "lookups while expiry runs"
for layout in "${layouts[@]}"; do
    run "VACUUM $layout"
    run "CALL warm('$layout')"
    run "TRUNCATE start_expiry, stop_expiry"
    case $layout in
        weekly) expire="CALL measure_drops('busy', 'weekly', 1, $(cutoff 22), 500)" form=any ;;
        daily) expire="CALL measure_drops('busy', 'daily', 1, $(cutoff 22), 1000)" form=any ;;
        hash*) expire="CALL measure_deletes('busy', '$layout', 'from', 1, $(cutoff 22), $BATCH)" form=join ;;
        *) expire="CALL measure_deletes('busy', '$layout', '$(form_of "$layout")', 1, $(cutoff 22), $BATCH)" form=any ;;
    esac
    # The same batches just before, without expiry: what the machine does at this moment.
    run "CALL measure_lookups('calm', '$layout', '$form', 1000, 1, 300)"
    run "$expire" &
    expiry=$!
    run "CALL measure_lookups('busy', '$layout', '$form', 1000, 1, 300)"
    run "INSERT INTO stop_expiry VALUES (true)"
    wait "$expiry"
done

step "done"
q -At -c "SELECT version()"
echo "clicks $ROWS, shared_buffers $SHARED_BUFFERS, load $(cut -d ' ' -f 1-3 /proc/loadavg)"
q -f "$sql/report.sql"
