#!/usr/bin/env bash
# Apache Kafka on loopback for tests and for trying things out, in KRaft mode and without containers.
# shellcheck disable=SC2030,SC2031 # dump_archive is a subshell so that its values do not last
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$here/../lib.sh"

usage() {
    cat <<'TEXT'
usage: kafka.sh fetch
       kafka.sh start   --dir DIR [--brokers 1|3] [--port P|free …] [--advertise P,…] [--until-exit PID] [--timeout S]
       kafka.sh start   --dir DIR [--broker N]
       kafka.sh stop    --dir DIR [--broker N]
       kafka.sh kill    --dir DIR [--broker N]
       kafka.sh freeze|continue --dir DIR [--broker N]
       kafka.sh status  --dir DIR
       kafka.sh produce --dir DIR --topic T [--partition N | --partitioner CLASS] [-- ARG…]
       kafka.sh console-consume --dir DIR --topic T [--from-beginning] [--max N] [--partition N]
                        [--timeout-ms MS] [--full] [-- ARG…]
       kafka.sh tool    --dir DIR topics|configs|consumer-groups|get-offsets|delete-records ARG…

fetch    resolves the jars with Maven into a cache, once; start does it too
start    a new cluster (ports are picked where none are given), or what is stopped of the one in DIR, on its
         old ports; waits until the brokers answer and know each other, prints bootstrap=HOST:PORT[,…] and
         leaves them running; --until-exit kills the cluster once that process has ended; --advertise names
         the loopback ports at which clients find the brokers, where a proxy stands before them
stop     SIGTERM, SIGKILL after 20 s; all brokers or one
kill     SIGKILL; all brokers or one
freeze   SIGSTOP, until continue sends SIGCONT; all brokers or one
status   a line per broker; fails unless all are running
produce  sends lines "key<TAB>value" from standard input with Kafka's console producer and Java's default
         partitioner; --partition N sends them with kcat instead, into that partition
console-consume
         prints "key<TAB>value"; --full adds time, partition, offset and headers

Each broker has DIR/broker-N with pid, log, server.properties and data.

Environment:
  POSTERN_CACHE       where jars are kept           (${XDG_CACHE_HOME:-~/.cache}/postern)
  POSTERN_KAFKA_HEAP  heap options of each broker   (-Xms256m -Xmx512m)
TEXT
}

version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")

# ---- jars

cache_root() {
    printf '%s\n' "${POSTERN_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set; set POSTERN_CACHE}/.cache}/postern}"
}

need_java() {
    need java default-jre-headless
    local v
    v=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [[ ${v:-0} -ge 17 ]] || die "Java 17 or newer is needed, found '${v:-unknown}'; apt-get install default-jre-headless"
}

lock_cache() {
    need flock util-linux
    mkdir -p "$root"
    exec 9>"$root/kafka-$version.lock"
    flock 9
}

# Puts the directory of the jars into $libs and a class archive into $archive.
fetch() {
    local root
    root=$(cache_root)
    libs=$root/kafka-$version
    [[ -d $libs ]] || fetch_jars
    archive=$root/kafka-$version-$(java -version 2>&1 | cksum | cut -d' ' -f1).jsa
    [[ -e $archive ]] || dump_archive
    # an empty one marks a Java that could not make it
    [[ -s $archive ]] || archive=''
}

# The directory appears by a rename, so whoever sees it sees all of it.
fetch_jars() {
    local part output
    need mvn maven
    lock_cache
    if [[ ! -d $libs ]]; then
        part=$(mktemp -d "$root/kafka-$version.part.XXXXXX")
        # shellcheck disable=SC2064 # the path is wanted as it is now
        trap "rm -rf '$part'" EXIT
        printf 'kafka.sh: resolving Apache Kafka %s with Maven into %s\n' "$version" "$libs" >&2
        output=$(mvn -q -B --strict-checksums -f "$here/pom.xml" dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$part" 2>&1 9>&-) || {
            printf '%s\n' "$output" >&2
            die "Maven could not resolve Apache Kafka $version; is Maven Central reachable?"
        }
        compgen -G "$part/kafka_2.13-$version.jar" >/dev/null || die "Maven left no kafka jar in $part"
        chmod 755 "$part"
        mv -T "$part" "$libs"
        trap - EXIT
    fi
    exec 9>&-
}

# Loading classes is most of what a starting broker does. An archive of them, made once by a broker that is
# started and stopped for it, takes 5 s to 2 s. It belongs to one build of Java, hence its name.
dump_archive() {
    lock_cache
    if [[ ! -e $archive ]]; then
        (
            dir=$(mktemp -d)
            trap 'end_all KILL; rm -rf "$dir"' EXIT
            count=1 wanted=() which=(1) broker='' timeout=60 jvm=("-XX:ArchiveClassesAtExit=$dir/archive")
            create && launch && end_all TERM && mv "$dir/archive" "$archive"
        ) >/dev/null 2>&1 || : >"$archive"
    fi
    exec 9>&-
}

# A short-lived Java tool: little heap, and no time spent on compiling well.
jtool() {
    java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ${archive:+"-XX:SharedArchiveFile=$archive"} \
        -Dlog4j2.configurationFile="$here/log4j2-tools.properties" -cp "$libs/*" "$@"
}

# ---- one broker

broker_dir() { printf '%s\n' "$dir/broker-$1"; }
alive() { running "$dir/broker-$1/pid" "$dir/broker-$1/server.properties"; }

properties() { # N PORT CONTROLLER_PORT VOTERS COUNT ADVERTISED
    local replicas=$5 isr=$(($5 > 1 ? 2 : 1))
    cat <<TEXT
process.roles=broker,controller
node.id=$1
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$6,CONTROLLER://127.0.0.1:$3
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=$4
log.dirs=$dir/broker-$1/data

# what Postern asks of a cluster
default.replication.factor=$replicas
min.insync.replicas=$isr
unclean.leader.election.enable=false
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$isr
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$isr

# small and quick, for tests
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
TEXT
}

spawn() { # N
    local b heap
    b=$(broker_dir "$1")
    [[ -z $archive || ${#jvm[@]} -gt 0 ]] || jvm=("-XX:SharedArchiveFile=$archive")
    read -r -a heap <<<"${POSTERN_KAFKA_HEAP:--Xms256m -Xmx512m}"
    # No descriptor of ours stays open in the broker: a caller that reads our output must see its end.
    (
        exec 0</dev/null 1>>"$b/log" 2>&1 9>&-
        exec setsid java "${heap[@]}" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError "${jvm[@]}" \
            -Dlog4j2.configurationFile="$here/log4j2.properties" -Djava.awt.headless=true \
            -cp "$libs/*" kafka.Kafka "$b/server.properties"
    ) &
    printf '%s\n' $! >"$b/pid"
    # until then it is still this script by its command line
    until running "$b/pid" "$b/server.properties" || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
}

# answered BYTES: reads them from descriptor 3 as decimal numbers.
answered() { timeout 5 head -c "$1" <&3 | od -An -v -tu1 -w1000; }

# members PORT: the ids of the brokers that this one knows as up, by a Metadata request (version 1, no topics).
members() (
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf '\0\0\0\16\0\3\0\1\0\0\0\1\377\377\0\0\0\0' >&3
    # size, correlation id, number of brokers; then 21 bytes for each, since all hosts have 9 characters
    read -r -a bytes < <(answered 12)
    ((${#bytes[@]} == 12 && bytes[11] > 0)) || exit 1
    read -r -a bytes < <(answered $((21 * bytes[11])))
    for ((i = 0; i + 21 <= ${#bytes[@]}; i += 21)); do
        printf '%s\n' $((bytes[i + 2] * 256 + bytes[i + 3]))
    done
)

# ---- the cluster: DIR/cluster holds count=, ports= and id=

load() {
    [[ -n $dir ]] || die "--dir is missing"
    [[ -r $dir/cluster ]] || die "there is no cluster in $dir"
    dir=$(cd "$dir" && pwd)
    local key value
    while IFS='=' read -r key value; do
        case $key in
            count) count=$value ;;
            ports) read -r -a ports <<<"${value//,/ }" ;;
        esac
    done <"$dir/cluster"
    [[ -z $broker || $broker =~ ^[0-9]+$ && $broker -ge 1 && $broker -le $count ]] ||
        die "there is no broker '$broker' in $dir, it has $count"
    if [[ -n $broker ]]; then which=("$broker"); else mapfile -t which < <(seq "$count"); fi
}

bootstrap() {
    local list
    printf -v list ',127.0.0.1:%s' "${ports[@]}"
    printf '%s\n' "${list:1}"
}

create() {
    local n b id voters='' cports=() pids=()
    # left over from a start that was cut short
    end_all KILL
    ports=()
    for ((n = 1; n <= count; n++)); do
        if [[ -n ${wanted[n - 1]:-} && ${wanted[n - 1]} != free ]]; then
            PORT=${wanted[n - 1]}
        else
            free_port
        fi
        ports+=("$PORT")
    done
    for ((n = 1; n <= count; n++)); do
        free_port
        cports+=("$PORT")
        voters+="${voters:+,}$n@127.0.0.1:$PORT"
    done
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)
    for ((n = 1; n <= count; n++)); do
        b=$(broker_dir "$n")
        rm -rf "$b"
        mkdir -p "$b"
        properties "$n" "${ports[n - 1]}" "${cports[n - 1]}" "$voters" "$count" \
            "${advertised[n - 1]:-${ports[n - 1]}}" >"$b/server.properties"
        jtool kafka.tools.StorageTool format -t "$id" -c "$b/server.properties" >"$b/format.log" 2>&1 &
        pids+=($!)
    done
    for n in "${!pids[@]}"; do
        wait "${pids[n]}" || {
            cat "$dir/broker-$((n + 1))/format.log" >&2
            die "could not format the storage of broker $((n + 1))"
        }
    done
    printf 'count=%s\nports=%s\nid=%s\n' "$count" "$(IFS=,; echo "${ports[*]}")" "$id" >"$dir/cluster.new"
    mv "$dir/cluster.new" "$dir/cluster"
}

# launch: starts those of $which that are stopped and waits until they answer. 2: a port was taken.
launch() {
    local n b known expected end=$((SECONDS + timeout))
    local -A from=()
    for n in "${which[@]}"; do
        alive "$n" && continue
        b=$(broker_dir "$n")
        from[$n]=$(stat -c %s "$b/log" 2>/dev/null || echo 0)
        spawn "$n"
    done
    for n in "${which[@]}"; do
        b=$(broker_dir "$n")
        # Everybody must know everybody where the whole cluster starts; one that returns must know itself.
        if [[ -z $broker ]]; then expected=$(seq "$count"); else expected=$n; fi
        until [[ -z ${from[$n]:-} ]] || tail -c "+$((from[$n] + 1))" "$b/log" | grep -F 'Kafka Server started' >/dev/null; do
            if ! alive "$n"; then
                tail -c "+$((from[$n] + 1))" "$b/log" | grep -F 'Address already in use' >/dev/null && return 2
                printf 'kafka.sh: broker %s has ended, the last lines of %s:\n' "$n" "$b/log" >&2
                tail -n 20 "$b/log" >&2
                return 1
            fi
            if ((SECONDS >= end)); then
                printf 'kafka.sh: broker %s is not up after %s s, the last lines of %s:\n' "$n" "$timeout" "$b/log" >&2
                tail -n 20 "$b/log" >&2
                return 1
            fi
            sleep 0.1
        done
        until known=$(members "${ports[n - 1]}") && [[ -z $(comm -23 <(sort <<<"$expected") <(sort <<<"$known")) ]]; do
            if ((SECONDS >= end)); then
                printf 'kafka.sh: broker %s does not answer, or knows only: %s\n' "$n" "${known//$'\n'/ }" >&2
                return 1
            fi
            sleep 0.1
        done
    done
}

cmd_start() {
    local attempt rc fixed=
    need_java
    need setsid util-linux
    fetch
    [[ -n $dir ]] || die "--dir is missing"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    [[ $dir != *[[:space:]]* ]] || die "--dir may not contain blanks: '$dir'"
    if [[ -e $dir/cluster ]]; then
        load
        launch || die "the cluster in $dir did not start"
    else
        [[ -z $broker ]] || die "there is no cluster in $dir yet; start it without --broker"
        count=${brokers:-1}
        [[ $count == 1 || $count == 3 ]] || die "--brokers is 1 or 3"
        ((${#wanted[@]} <= count)) || die "more ports than brokers"
        ((${#advertised[@]} == 0 || ${#advertised[@]} == count)) || die "--advertise names one port per broker"
        for PORT in "${advertised[@]}"; do valid_port "$PORT"; done
        for PORT in "${wanted[@]}"; do
            [[ $PORT != free ]] || continue
            valid_port "$PORT"
            if port_taken "$PORT"; then die "port $PORT is taken"; fi
            fixed=1
        done
        mapfile -t which < <(seq "$count")
        for ((attempt = 1; ; attempt++)); do
            create
            rc=0
            launch || rc=$?
            ((rc == 0)) && break
            end_all KILL
            rm -f "$dir/cluster"
            ((rc == 2)) || die "the cluster did not start"
            [[ -z $fixed ]] || die "a port of ${wanted[*]} is taken"
            ((attempt < 5)) || die "ports were taken by others five times"
        done
    fi
    if [[ -n $until_exit ]]; then stop_after "$until_exit" "$here/kafka.sh" kill --dir "$dir"; fi
    printf 'bootstrap=%s\n' "$(bootstrap)"
}

# end_all SIGNAL: to all of $which, and waits.
end_all() {
    local n
    for n in "${which[@]}"; do
        if alive "$n"; then kill "-$1" "$PID" 2>/dev/null || true; fi
    done
    for n in "${which[@]}"; do
        if ! gone_within "$dir/broker-$n/pid" "$dir/broker-$n/server.properties" 20; then
            printf 'kafka.sh: broker %s did not end within 20 s, killing it\n' "$n" >&2
            if alive "$n"; then kill -KILL "$PID" 2>/dev/null || true; fi
            gone_within "$dir/broker-$n/pid" "$dir/broker-$n/server.properties" 10 || die "broker $n can't be killed"
        fi
        rm -f "$dir/broker-$n/pid"
    done
}

signal_all() { # SIGNAL
    local n
    for n in "${which[@]}"; do
        alive "$n" || die "broker $n does not run"
        kill "-$1" "$PID"
    done
}

cmd_status() {
    local n bad=0
    load
    printf 'bootstrap=%s\n' "$(bootstrap)"
    for n in "${which[@]}"; do
        if alive "$n"; then
            printf 'broker=%s port=%s pid=%s running\n' "$n" "${ports[n - 1]}" "$PID"
        else
            printf 'broker=%s port=%s stopped\n' "$n" "${ports[n - 1]}"
            bad=1
        fi
    done
    return "$bad"
}

# ---- foreign clients

cmd_produce() {
    local args=()
    load
    [[ -n $topic ]] || die "--topic is missing"
    if [[ -n $partition ]]; then
        need kcat kcat
        exec kcat -q -P -b "$(bootstrap)" -t "$topic" -p "$partition" -K "$(printf '\t')" -X acks=all "${rest[@]}"
    fi
    [[ -z $partitioner ]] || args+=(--command-property "partitioner.class=$partitioner")
    need_java
    fetch
    jtool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$(bootstrap)" --topic "$topic" \
        --reader-property parse.key=true --reader-property "key.separator=$(printf '\t')" \
        --command-property acks=all "${args[@]}" "${rest[@]}"
}

cmd_consume() {
    local args=()
    load
    [[ -n $topic ]] || die "--topic is missing"
    if [[ -n $beginning ]]; then args+=(--from-beginning); fi
    if [[ -n $max ]]; then args+=(--max-messages "$max"); fi
    if [[ -n $partition ]]; then args+=(--partition "$partition"); fi
    if [[ -n $timeout_ms ]]; then args+=(--timeout-ms "$timeout_ms"); fi
    if [[ -n $full ]]; then
        for f in timestamp partition offset headers; do args+=(--formatter-property "print.$f=true"); done
    fi
    need_java
    fetch
    jtool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$(bootstrap)" --topic "$topic" \
        --formatter-property print.key=true --formatter-property "key.separator=$(printf '\t')" \
        "${args[@]}" "${rest[@]}"
}

cmd_tool() {
    local class
    load
    case ${rest[0]:-} in
        topics) class=org.apache.kafka.tools.TopicCommand ;;
        configs) class=kafka.admin.ConfigCommand ;;
        consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
        get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
        delete-records) class=org.apache.kafka.tools.DeleteRecordsCommand ;;
        *) die "no such tool: '${rest[0]:-}'" ;;
    esac
    need_java
    fetch
    jtool "$class" --bootstrap-server "$(bootstrap)" "${rest[@]:1}"
}

# ---- command line

command=${1:-}
[[ $# -gt 0 ]] && shift
dir='' brokers='' broker='' until_exit='' timeout=90
topic='' partition='' partitioner='' beginning='' max='' timeout_ms='' full=''
wanted=() advertised=() rest=() which=() ports=() count=0 libs='' archive='' jvm=()

while [[ $# -gt 0 ]]; do
    case $1 in
        --dir | --brokers | --broker | --port | --advertise | --until-exit | --timeout | --topic | --partition | --partitioner | --max | --timeout-ms)
            [[ $# -ge 2 ]] || die "$1 needs a value"
            ;;&
        --dir) dir=$2 ;;
        --brokers) brokers=$2 ;;
        --broker) broker=$2 ;;
        --port)
            # one or several: --port 1 2 3, --port 1 --port 2, --port 1,2,3
            IFS=, read -r -a list <<<"$2"
            wanted+=("${list[@]}")
            while [[ ${3:-} =~ ^([0-9]+|free)$ ]]; do
                wanted+=("$3")
                shift
            done
            ;;
        --advertise) IFS=, read -r -a advertised <<<"$2" ;;
        --until-exit) until_exit=$2 ;;
        --timeout) timeout=$2 ;;
        --topic) topic=$2 ;;
        --partition) partition=$2 ;;
        --partitioner) partitioner=$2 ;;
        --max) max=$2 ;;
        --timeout-ms) timeout_ms=$2 ;;
        --from-beginning) beginning=1 ;;
        --full) full=1 ;;
        -h | --help) usage; exit 0 ;;
        --) shift; rest+=("$@"); break ;;
        *)
            [[ $command == tool ]] || die "unknown argument '$1' (see kafka.sh --help)"
            rest+=("$@")
            break
            ;;
    esac
    case $1 in --from-beginning | --full) shift ;; *) shift 2 ;; esac
done

case $command in
    fetch) need_java; fetch; printf '%s\n' "$libs" ;;
    start) cmd_start ;;
    stop) load; end_all TERM ;;
    kill) load; end_all KILL ;;
    freeze) load; signal_all STOP ;;
    continue) load; signal_all CONT ;;
    status) cmd_status ;;
    produce) cmd_produce ;;
    console-consume) cmd_consume ;;
    tool) cmd_tool ;;
    -h | --help | help) usage ;;
    '') usage >&2; exit 2 ;;
    *) die "unknown command '$command' (see kafka.sh --help)" ;;
esac
