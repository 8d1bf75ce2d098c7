#!/usr/bin/env bash
# Fills PostgreSQL with millions of conversions, and measures what reports cost there while postbacks come in.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$root/deploy/lib.sh"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

usage() {
    cat <<'TEXT'
usage: reports.sh [-h]

Environment:
  CONVERSIONS     conversions, over DAYS days; twice as many clicks   (10000000, which need 30 GB)
  DAYS                                                                (90)
  WRITERS         workers of consumers that wrote the totals          (4)
  ROUNDS          how often each query is asked                       (100)
  RATE            postbacks per second meanwhile                      (500)
  SECONDS_RUN     for so long, which must be longer than the queries  (120)
  SHARED_BUFFERS  of PostgreSQL                                       (2GB)
  DATA            a directory where the filled cluster is kept, and used again
  PLANS           a file for the plans of the queries
  POSTERN, POSTERN_BENCH   these programs instead of ones that are built
  TMPDIR                   where all data is put, and removed at the end
TEXT
}

case ${1:-} in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

CONVERSIONS=${CONVERSIONS:-10000000}
need curl curl
need python3 python3
need psql postgresql-client
plans=${PLANS:-}
[[ $plans == '' || $plans == /* ]] || plans=$PWD/$plans

use_programs
begin reports
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
data=${DATA:-$dir/postgres}

start_parts "$data"
q() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" "$@"; }
if [[ $(q -c 'SELECT count(*) FROM (SELECT 1 FROM conversions LIMIT 1) v') == 0 ]]; then
    # Bulk loading without a log of it, for which no copy may be configured.
    for setting in "shared_buffers = '${SHARED_BUFFERS:-2GB}'" "effective_cache_size = '8GB'" "max_wal_size = '8GB'" \
        'wal_level = minimal' 'max_wal_senders = 0' "shared_preload_libraries = 'auto_explain'"; do
        q -c "ALTER SYSTEM SET $setting"
    done
    "$root/deploy/postgres/postgres.sh" restart --dir "$data" >/dev/null
    q -v conversions="$CONVERSIONS" -v days="${DAYS:-90}" -v writers="${WRITERS:-4}" -f "$here/reports/generate.sql" >&2
else
    # The topics are new: what an earlier run consumed is numbered as this one's will be.
    for table in 'conversions WHERE kafka_partition < 1000' partitions rejects_positions topics; do
        q -c "DELETE FROM $table"
    done
fi
q -c "SELECT relname, reltuples::bigint AS rows, pg_size_pretty(pg_total_relation_size(oid)) FROM pg_class
       WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 1000 ORDER BY 1" >&2

start_roles
free_port
reports=$PORT
export POSTERN__HTTP__LISTEN=127.0.0.1:$reports
# again: starts reports, anew if it runs.
again() {
    if [[ -n ${running:-} ]]; then
        kill -TERM "${pids[-1]}"
        wait "${pids[-1]}" || true
        unset 'pids[-1]'
    fi
    running=1
    start reports
    ready reports "$ADMIN"
}
again
admin=$("$postern" token create --admin)

# The last whole month, a day in the middle of it, its last week, and a click of that time.
read -r from to day week clickid < <(q -F ' ' -c "
    SELECT m::date, (m + interval '1 month - 1 day')::date, (m + interval '14 days')::date,
           (m + interval '1 month - 7 days')::date,
           (SELECT clickid FROM conversions WHERE campaign_id = 1 AND created_at > m + interval '14 days'
             ORDER BY created_at LIMIT 1)
      FROM (SELECT date_trunc('month', max(created_at)) - interval '1 month' AS m FROM conversions) AS last")

ask() { python3 "$here/reports/queries.py" "http://127.0.0.1:$reports" "$admin" "$1" "$from" "$to" "$day" "$week" "$clickid"; }

if [[ -n $plans ]]; then
    size=$(stat -c %s "$data/log")
    q -c 'ALTER DATABASE postern SET auto_explain.log_min_duration = 0' \
        -c 'ALTER DATABASE postern SET auto_explain.log_analyze = on' \
        -c 'ALTER DATABASE postern SET auto_explain.log_buffers = on'
    again
    ask 1 >/dev/null
    tail -c "+$((size + 1))" "$data/log" >"$plans"
    q -c 'ALTER DATABASE postern RESET ALL'
    again
fi

printf '\n== beside %s postbacks per second\n' "${RATE:-500}" >&2
rate=${RATE:-500} seconds=${SECONDS_RUN:-120}
"$generator" publish --target "http://127.0.0.1:$INGRESS" --token "$token" --count $((rate * (seconds + 5))) --settle
"$generator" load --target "http://127.0.0.1:$INGRESS" --rate "$rate" --seconds "$seconds" --warmup 5 \
    --connections 32 >"$dir/load.json" 2>"$dir/logs/load.log" &
pids+=($!)
ask "${ROUNDS:-100}"
kill -0 "${pids[-1]}" 2>/dev/null || die 'the load ended before the queries did: raise SECONDS_RUN'
wait "${pids[-1]}" || die 'the load had wrong answers'
unset 'pids[-1]'
cat "$dir/logs/load.log" >&2
