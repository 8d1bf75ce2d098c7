# shellcheck shell=bash
# What the scripts that start real parts for tests share. Sourced, not run.

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need COMMAND PACKAGE: fails with the name of the Debian package to install.
need() {
    command -v "$1" >/dev/null 2>&1 || die "$1 is missing; install it with: apt-get install $2"
}

# sockets PATTERN: whether a line of the kernel's tables of TCP sockets matches.
sockets() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -E -- "$1" >/dev/null; }

# port_taken PORT: somebody listens on it.
port_taken() {
    local hex
    printf -v hex '%04X' "$1"
    sockets ":$hex [0-9A-F]+:0000 0A "
}

declare -A PORTS_PICKED=()

# free_port: puts a loopback port that nobody uses into $PORT. The range lies below the kernel's ephemeral
# ports, so that no outgoing connection takes the port while its server is down for a restart. Another
# process can still be faster: callers that pick ports by themselves start again when binding fails.
free_port() {
    local try hex
    for ((try = 0; try < 200; try++)); do
        PORT=$((20000 + SRANDOM % 12000))
        [[ -z ${PORTS_PICKED[$PORT]:-} ]] || continue
        printf -v hex '%04X' "$PORT"
        sockets ":$hex " && continue
        PORTS_PICKED[$PORT]=1
        return 0
    done
    die "found no free port between 20000 and 31999"
}

# valid_port VALUE: dies unless it is a port number.
valid_port() {
    if [[ ! $1 =~ ^[0-9]{1,5}$ ]] || ((10#$1 < 1 || 10#$1 > 65535)); then die "not a port: '$1'"; fi
}

# running PIDFILE TEXT: puts the pid into $PID when that process lives and has TEXT on its command line, so
# that a stale pid file never names somebody else's process.
running() {
    PID=
    [[ -r $1 ]] || return 1
    read -r PID <"$1" || true
    [[ $PID =~ ^[0-9]+$ ]] || return 1
    # A zombie has an empty command line for good, and counts as gone; a process that is becoming another
    # program (setsid, java) has one for a moment.
    local line try
    for ((try = 0; try < 10; try++)); do
        [[ -r /proc/$PID/cmdline ]] || return 1
        line=$(tr '\0' ' ' 2>/dev/null <"/proc/$PID/cmdline") || return 1
        if [[ -n $line ]] || grep -q '^State:.Z' "/proc/$PID/status" 2>/dev/null; then break; fi
        sleep 0.02
    done
    [[ $line == *"$2"* ]]
}

# gone_within PIDFILE TEXT SECONDS: waits until it has ended.
gone_within() {
    local end=$((SECONDS + $3))
    while running "$1" "$2"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# stop_after PID COMMAND…: runs the command once the process PID has ended, so that an aborted test run
# leaves nothing behind.
stop_after() {
    local pid=$1
    shift
    [[ $pid =~ ^[0-9]+$ ]] || die "not a pid: '$pid'"
    # All inherited descriptors are closed: a caller that reads our output must see its end.
    (
        exec 0</dev/null 1>/dev/null 2>/dev/null
        # shellcheck disable=SC2016 # expanded by the inner shell
        setsid bash -c 'tail --pid="$0" -s 0.5 -f /dev/null; exec "$@"' "$pid" "$@" &
    )
}
