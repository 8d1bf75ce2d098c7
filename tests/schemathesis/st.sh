#!/usr/bin/env bash
# Prints where schemathesis is, which `make test-ops` holds against docs/openapi.json; gets it first
# where it is missing, into a directory of its own below target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

place=$PWD/target/schemathesis
if ! cmp -s tests/schemathesis/requirements.txt "$place/requirements.txt"; then
    rm -rf "$place"
    python3 -m venv "$place" >&2
    "$place/bin/pip" install --quiet --disable-pip-version-check -r tests/schemathesis/requirements.txt >&2
    cp tests/schemathesis/requirements.txt "$place/requirements.txt"
fi
printf '%s\n' "$place/bin/st"
