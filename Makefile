# `make help` lists the targets.

# The embedded broker declares Rust 1.96 and works with 1.95; older toolchains are told to go on.
RUST_MINOR := $(shell rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
IGNORE := $(shell test "$(or $(RUST_MINOR),0)" -lt 96 && echo --ignore-rust-version)
# only the tests build what can be made to fail
FAILPOINTS := --features postern/failpoints
SCRIPTS := $(wildcard deploy/*.sh deploy/*/*.sh tests/*/*.sh) .ci/run

.PHONY: help compilers build run test test-ops reliability soak mutants bench profile reference fuzz lint deny image-files \
    image-check

help:
	@echo 'make build        target/release/postern'
	@echo 'make run          build, and serve everything in one process, data in ./data'
	@echo 'make test         all tests; starts Kafka and PostgreSQL itself, unless POSTERN_TEST_KAFKA'
	@echo '                  (host:port,…) and POSTERN_TEST_POSTGRES (postgres://…) name them'
	@echo 'make test-ops     rules, dashboards and the topology of docker-compose.yml, some 10 minutes'
	@echo 'make reliability  races, crashes and rebalances at full size, some 30 minutes'
	@echo 'make soak         what Postern stands on fails for SOAK_MINUTES (60), from SOAK_SEED (1) on;'
	@echo '                  FAULTS=TEXT,… takes only those whose names hold one, FAULTS=!TEXT all others'
	@echo 'make mutants      breaks each invariant on purpose and shows that a test turns red'
	@echo 'make bench        Postern and what it is compared with, some 90 minutes, into docs/BENCHMARKS.md; BENCH=NAME'
	@echo '                  takes only a part (contenders, drains, sizes, clicks, connections, storms, overload,'
	@echo '                  sustained); needs nginx, php-fpm, php-pgsql and go beside what tests need'
	@echo 'make profile      where the time goes, with perf'
	@echo 'make reference    writes docs/CONFIGURATION.md anew, from the types'
	@echo 'make fuzz         each parser for FUZZ_SECONDS (600); needs cargo-fuzz and g++'
	@echo 'make lint         formatting, clippy, scripts, and what may be linked'
	@echo 'make deny         as in lint, and security advisories; needs the network'
	@echo 'make image-check  compile what the production image is built from; needs libssl-dev'

# librdkafka's build asks for a C++ compiler and says so many lines before its end.
compilers:
	@for tool in cc c++; do command -v $$tool >/dev/null || { \
	    echo "make: $$tool is missing: apt-get install build-essential" >&2; exit 1; }; done

build: compilers
	cargo build --release --locked $(IGNORE) -p postern

run: compilers
	cargo run --release --locked $(IGNORE) -p postern -- standalone

# One profile: the tests start target/debug/postern, which the first line builds, with failpoints.
test: compilers
	-@deploy/parts.sh check
	cargo build --workspace --locked $(IGNORE) $(FAILPOINTS)
	cargo test --workspace --locked --no-run $(IGNORE) $(FAILPOINTS)
	@sync # or what was built is written while brokers wait for the same disk
	cargo test --workspace --locked --no-fail-fast $(IGNORE) $(FAILPOINTS) $(TEST_ARGS)

reliability:
	cargo build --release --locked $(IGNORE) $(FAILPOINTS) --workspace
	POSTERN_RELIABILITY=full cargo test --release --locked $(IGNORE) -p postern-tests --test reliability $(TEST_ARGS) \
	    -- --test-threads=1 --nocapture

soak:
	cargo build --release --locked $(IGNORE) $(FAILPOINTS) --workspace
	cargo test --release --locked $(IGNORE) -p postern-tests --test reliability outside::soak \
	    -- --ignored --nocapture

test-ops:
	-@deploy/parts.sh check
	cargo build --workspace --locked $(IGNORE) $(FAILPOINTS)
	cargo test --workspace --locked $(IGNORE) $(FAILPOINTS) --test ops $(TEST_ARGS) -- --ignored --test-threads=1

mutants:
	tests/mutants/run.sh $(MUTANTS)

bench: compilers
	python3 bench/suite $(BENCH)

profile: compilers
	python3 bench/suite/profile.py

# Needs cargo-fuzz, whose flags a released compiler takes only when it is told to. What it finds belongs into
# fuzz/corpus, over which the tests run.
FUZZ_SECONDS := 600
fuzz:
	for target in query form json record cursor; do \
	    mkdir -p target/fuzz-corpus/$$target; \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run $$target target/fuzz-corpus/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 || exit 1; \
	done

reference:
	cargo run --quiet --locked $(IGNORE) -p postern -- config reference > docs/CONFIGURATION.md

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(IGNORE) -- -D warnings
	@if command -v shellcheck >/dev/null; then \
	    echo shellcheck; shellcheck -x $(SCRIPTS); \
	else echo 'lint: NOT checked, shellcheck is missing: scripts'; fi
	@if cargo deny --version >/dev/null 2>&1; then \
	    echo cargo deny; cargo fetch --quiet --locked && cargo deny --offline --log-level error check bans licenses sources; \
	else echo 'lint: NOT checked, cargo-deny is missing: crates, licences and rooms (deny.toml)'; fi
	@if command -v docker-compose >/dev/null; then \
	    echo docker-compose config; POSTERN_CLICKS_TOKEN=x POSTERN_POSTGRES_PASSWORD=x docker-compose -f docker-compose.yml config -q; \
	else echo 'lint: NOT checked, docker-compose is missing: docker-compose.yml'; fi
	@$(MAKE) --no-print-directory image-files

deny:
	cargo deny check

# The image is built from what the Dockerfile copies and nothing else.
IMAGE_FILES := $(shell sed -n 's/^COPY \([^-].*\) [^ ]*$$/\1/p' deploy/Dockerfile)
image-files:
	@rm -rf target/image && mkdir -p target/image
	@for file in $(IMAGE_FILES); do \
	    grep -qx "!$$file" deploy/Dockerfile.dockerignore || { echo "deploy/Dockerfile.dockerignore keeps $$file out"; exit 1; }; \
	    cp -r "$$file" target/image/; \
	done
	cargo metadata --locked --format-version 1 --manifest-path target/image/Cargo.toml >/dev/null

image-check: image-files
	cargo check -p postern --no-default-features --features tls --locked $(IGNORE) \
	    --manifest-path target/image/Cargo.toml --target-dir target
