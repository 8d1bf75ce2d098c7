#!/usr/bin/env bash
# Offers an ingress on Kafka + PostgreSQL many times what its consumer can do, and tells what those get that are
# taken, how many are turned away, what the process grows by, and whether anything that was taken is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$root/deploy/lib.sh"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

usage() {
    cat <<'TEXT'
usage: overload.sh

The consumer's batches are made small, so that one machine can offer ten times what it does.

Environment:
  BATCH         consumer.max_batch                                (4)
  NORMAL        connections of the normal load                    (16)
  CONNECTIONS   connections of the overload                       (1000)
  PAUSE         milliseconds between an answer and the next postback of such a connection, half to one
                and a half times that: what makes it an offered rate, and not one that answers set (45)
  SECONDS_RUN   how long the overload lasts                       (60)
  POSTERN       this binary instead of one that is built; then POSTERN_BENCH too
  TMPDIR        where all data is put, and removed at the end
TEXT
}

case ${1:-} in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
need curl curl
need wrk wrk
need psql postgresql-client
need python3 python3

use_programs
begin overload
# shellcheck disable=SC2034 # read by lib.sh
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
clicks=40000
pause=${PAUSE:-45}

metrics() { curl -fsS "http://127.0.0.1:$ADMIN/metrics" | grep -v '^#' >"$1"; }
resident() { awk '/VmRSS/ {print $2}' "/proc/$ingress/status"; }

# load NAME CONNECTIONS SECONDS [PAUSE]
load() {
    local pid callers
    # shellcheck disable=SC2030
    export PAUSE=${4:-0}
    metrics "$dir/before"
    resident >"$dir/resident"
    # What callers see: a few of them, at fixed times.
    "$generator" --ingress "http://127.0.0.1:$INGRESS" --token "$token" --rate 25 --seconds "$3" --warmup 0 \
        --connections 16 >"$dir/callers-$1" 2>"$dir/logs/callers-$1" &
    callers=$!
    # Its clicks are known by then, and it has begun.
    sleep 5
    wrk -t1 -c"$2" -d"$3s" --latency --timeout 10s -s "$dir/postbacks.lua" "http://127.0.0.1:$INGRESS" >"$dir/logs/wrk-$1" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        resident >>"$dir/resident"
        sleep 1
    done
    wait "$pid"
    wait "$callers"
    metrics "$dir/after"
    python3 "$here/overload.py" "$1" "$2" "$3" "$dir/before" "$dir/after" "$dir/resident" "$dir/callers-$1" \
        "$dir/logs/wrk-$1"
}

start_parts "$dir/postgres"
export POSTERN__CONSUMER__MAX_BATCH=${BATCH:-4}
start_roles
consumer=${pids[-2]} ingress=${pids[-1]}
for ((from = 0; from < clicks; from += 20000)); do
    seq "$from" $((from + 19999)) | sed 's/.*/{"clickid":"c&","campaign_id":18}/' |
        curl -fsS -o /dev/null -H "Authorization: Bearer $token" --data-binary @- "http://127.0.0.1:$INGRESS/v1/clicks"
done
stored() { psql -qXAt -c "SELECT count(*) FROM $1" "$url"; }
until (($(stored clicks) == clicks)); do sleep 0.5; done
cat >"$dir/postbacks.lua" <<TEXT
request = function()
    return wrk.format("GET", "/v1/postback.php?clickid=c" .. math.random(0, $clicks - 1) .. "&revenue=1.5")
end
local pause = tonumber(os.getenv("PAUSE"))
if pause > 0 then
    delay = function() return math.random(pause / 2, pause * 3 / 2) end
end
TEXT

printf '| load | connections | offered/s | taken/s | turned away/s | p50 | p99 | in the ingress: p50 | p99 | at fixed times: p50 | p99 | resident before | most |\n'
printf '|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n'
load warm-up "${NORMAL:-16}" 10 >/dev/null
load normal "${NORMAL:-16}" 20
load capacity 64 20
load overload "${CONNECTIONS:-1000}" "${SECONDS_RUN:-60}" "$pause"

# Those whose callers were gone when the load ended may be there besides.
taken=$(metrics "$dir/after" && python3 "$here/overload.py" taken "$dir/after")
# What is left takes a consumer at its full speed minutes instead of a quarter of an hour.
kill -TERM "$consumer"
wait "$consumer" || true
unset POSTERN__CONSUMER__MAX_BATCH
start consumer
ready consumer "$ADMIN"
# As long as there are more each time, the consumer is still at it.
logged=-1
until (($(stored postback_log) >= taken)); do
    now=$(stored postback_log)
    ((now > logged)) || die "$taken postbacks were taken, and $now are in the log"
    logged=$now
    sleep 5
done
printf '\n%s postbacks were taken; the log has %s.\n' "$taken" "$(stored postback_log)"
