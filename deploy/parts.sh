#!/usr/bin/env bash
# The Debian packages that building and testing Postern takes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

usage() {
    cat <<'TEXT'
usage: parts.sh check     prints what is missing, fails when something is
       parts.sh install   installs what is missing with apt-get, as root or through sudo
TEXT
}

# PACKAGE  COMMAND  WHAT FOR; a command that starts with / is a path, in which * may stand.
parts() {
    cat <<'TEXT'
build-essential        gcc                            building librdkafka and SQLite
build-essential        c++                            building librdkafka
build-essential        make                           building librdkafka, the make targets
faketime               /usr/lib/*/faketime/libfaketimeMT.so.1   stepping the clock of a process
util-linux             setpriv                        running PostgreSQL when called as root
procps                 ps                             looking at processes
curl                   curl                           running the README's lines
ca-certificates        /etc/ssl/certs/ca-certificates.crt   downloading Kafka
default-jre-headless   java                           running Kafka
maven                  mvn                            downloading Kafka
kcat                   kcat                           reading and writing topics with a foreign client
postgresql             /usr/lib/postgresql/*/bin/initdb     running PostgreSQL
postgresql-client      psql                           looking into PostgreSQL
sqlite3                sqlite3                        looking into standalone's store
php-cli                php                            comparing query parsing with PHP's, signing postbacks
python3                python3                        signing postbacks, make test-ops
python3-venv           /usr/lib/python3*/ensurepip/__init__.py   getting schemathesis for make test-ops
git                    git                            the clone in which make test-ops types what the documents say
nodejs                 node                           signing postbacks
openssl                openssl                        signing postbacks
nginx-light            /usr/sbin/nginx                the proxy of make test-ops
prometheus             prometheus                     rules and alerts of make test-ops
shellcheck             shellcheck                     make lint
docker-compose         docker-compose                 make lint: docker-compose.yml
TEXT
}

have() {
    if [[ $1 == /* ]]; then compgen -G "$1" >/dev/null; else command -v "$1" >/dev/null 2>&1; fi
}

missing() {
    local package command what
    while read -r package command what; do
        have "$command" || printf '%s\t%s\n' "$package" "$what"
    done < <(parts)
}

check() {
    local list
    list=$(missing)
    [[ -n $list ]] || return 0
    printf 'missing:\n' >&2
    while IFS=$'\t' read -r package what; do
        printf '  %-22s %s\n' "$package" "$what" >&2
    done <<<"$list"
    printf 'to install them: deploy/parts.sh install\n' >&2
    return 1
}

install() {
    local packages sudo=()
    mapfile -t packages < <(missing | cut -f1 | sort -u)
    ((${#packages[@]} > 0)) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null 2>&1 || { check || true; die "neither root nor sudo, nothing was installed"; }
        sudo=(sudo)
    fi
    command -v apt-get >/dev/null 2>&1 || { check || true; die "there is no apt-get, nothing was installed"; }
    printf 'parts.sh: installing %s\n' "${packages[*]}" >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    check
}

case ${1:-} in
    check) check ;;
    install) install ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac
