# Everything a person does here, by name. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

.PHONY: help build deb demo test lint fmt bench engine-up engine-status engine-down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

build: ## build the program for release: target/release/evenkeel
	cargo build --release --package evenkeel

deb: ## build and pack the Debian package: target/debian/evenkeel_*.deb; TARGET=triple
	@TARGET='$(TARGET)' docker/deb.sh

demo: ## watch one push after another, end to end on real parts; KEEP=1 leaves it running
	@KEEP='$(KEEP)' RELEASE='$(RELEASE)' tests/demo.sh

test: ## run every test on real parts; SUITE=scenarios FILTER=name for some of them
	@SUITE='$(SUITE)' FILTER='$(FILTER)' KEEP='$(KEEP)' tests/run.sh

lint: ## format, clippy, licences and banned crates, import order, shellcheck, sizes; ONLY="fmt shell" for some
	@tests/lint.sh $(ONLY)

fmt: ## format the Rust code
	@cargo fmt --all

bench: ## measure, as ratios against a baseline in the same run; FILTER=name for some
	@FILTER='$(FILTER)' tests/bench.sh

engine-up: ## use the Docker engine that answers, or fetch and start a private one
	@docker/engine.sh up

engine-status: ## say which engine is in use
	@docker/engine.sh status

engine-down: ## stop the private engine and undo what it did to this machine
	@docker/engine.sh down

clean: ## delete our own crates' build output and the tests' logs; dependencies stay compiled
	cargo clean --package evenkeel --package evenkeel-core --package evenkeel-layout --package evenkeel-tests
	rm -rf target/test-logs
