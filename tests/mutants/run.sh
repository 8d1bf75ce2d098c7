#!/usr/bin/env bash
# Breaks Postern on purpose, one mutant after the other, and shows that a test turns red.
#
# A mutant is a patch whose head says what it breaks, which invariant of docs/ARCHITECTURE.md that is,
# and the test that catches it. Works on a copy of the files that git knows, as they are now.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'TEXT'
usage: run.sh [NAME…]    all mutants, or those named

Environment:
  MUTANTS_DIR   where the copy and its build are kept   (target/mutants)
TEXT
}

[[ ${1:-} != -h && ${1:-} != --help ]] || {
    usage
    exit 0
}

work=${MUTANTS_DIR:-$root/target/mutants}
tree=$work/tree
log=$work/log
rm -rf "$tree"
mkdir -p "$tree" "$log"
export CARGO_TARGET_DIR=$work/build CARGO_TERM_COLOR=never RUST_BACKTRACE=0

cargo_flags=(--locked)
minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
[[ ${minor:-0} -ge 96 ]] || cargo_flags+=(--ignore-rust-version)

# Files that did not change keep their times, and with them what is built.
copy() {
    local file
    git -C "$root" ls-files -z --cached --others --exclude-standard | (
        cd "$root" && while IFS= read -r -d '' file; do
            cmp -s "$file" "$tree/$file" || cp --parents "$file" "$tree/"
        done
    )
}

head_of() { sed -n "s/^$2: //p" "$1" | head -n 1; }

# build TEST-SPEC: the test, and the binary where the test starts it
build() {
    local words
    read -ra words <<<"$1"
    if [[ ${words[0]} == postern-tests ]]; then
        (cd "$tree" && cargo build "${cargo_flags[@]}" --workspace --features postern/failpoints) || return
    fi
    (cd "$tree" && cargo test "${cargo_flags[@]}" -p "${words[@]}" --no-run)
}

run_test() {
    local words
    read -ra words <<<"$1"
    (cd "$tree" && CI=true cargo test "${cargo_flags[@]}" -p "${words[@]}" -- --test-threads=1)
}

ran() { grep -Eq '^test result: .*\b[1-9][0-9]* (passed|failed)' "$1"; }

patches=()
if (($#)); then
    for name in "$@"; do patches+=("$here/${name%.patch}.patch"); done
else
    patches=("$here"/*.patch)
fi

copy || exit
failures=0
report() {
    printf '%-40s %s\n' "$1" "$2"
}

# A test that is red anyway catches nothing.
declare -A green
for patch in "${patches[@]}"; do
    [[ -f $patch ]] || {
        printf 'no mutant %s\n' "$patch" >&2
        exit 2
    }
    spec=$(head_of "$patch" 'caught by')
    [[ -n ${green[$spec]:-} ]] && continue
    out=$log/unbroken.log
    if build "$spec" >"$out" 2>&1 && run_test "$spec" >>"$out" 2>&1 && ran "$out"; then
        green[$spec]=yes
    else
        cp "$out" "$log/unbroken-${spec//[^a-z_A-Z0-9]/-}.log"
        green[$spec]=no
        report "unbroken" "RED or not run: $spec"
        failures=$((failures + 1))
    fi
done

for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    spec=$(head_of "$patch" 'caught by')
    out=$log/$name.log
    copy
    if ! patch -d "$tree" -p1 --quiet --no-backup-if-mismatch <"$patch" >"$out" 2>&1; then
        report "$name" "DOES NOT APPLY, see $out"
        failures=$((failures + 1))
    elif ! build "$spec" >>"$out" 2>&1; then
        report "$name" "DOES NOT COMPILE, see $out"
        failures=$((failures + 1))
    elif run_test "$spec" >>"$out" 2>&1 || ! ran "$out"; then
        report "$name" "SURVIVES $spec, see $out"
        failures=$((failures + 1))
    else
        report "$name" "caught (invariant $(head_of "$patch" invariant)) by $spec"
    fi
    # The files that the patch touched, as they were.
    patch -d "$tree" -p1 --quiet --reverse --no-backup-if-mismatch <"$patch" >>"$out" 2>&1
done
copy
printf '%s mutants, %s not caught\n' "${#patches[@]}" "$failures"
exit $((failures > 0))
