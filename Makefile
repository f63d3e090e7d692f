# The commands of the project. `make demo` and `make test` need nothing but git, make, curl, a C compiler and Rust:
# they install what else is missing. Both may be run again at any time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

XDG_CACHE_HOME ?= $(HOME)/.cache
XDG_DATA_HOME ?= $(HOME)/.local/share

# Libraries, models, sample media and build outputs.
export SQUILLA_CACHE ?= $(XDG_CACHE_HOME)/squilla
# Tables, views and the log of the demo's server.
export SQUILLA_DATA ?= $(XDG_DATA_HOME)/squilla
export SQUILLA_PORT ?= 5433
export CARGO_TARGET_DIR ?= $(SQUILLA_CACHE)/target
export HF_HOME ?= $(SQUILLA_CACHE)/hf

.PHONY: help setup build demo stop test fmt docs clean

help: ## Lists the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## Installs what is missing: system packages, ONNX Runtime, PDFium, models
	@scripts/setup.sh

build: setup ## Builds the release binary
	@cargo build --release

demo: build ## Builds, starts a server on port 5433 and runs the four example statements through psql
	@scripts/demo.sh

stop: ## Stops the server of `make demo`
	@scripts/stop.sh

test: setup ## Runs everything that CI runs
	@scripts/setup-tests.sh
	@scripts/test.sh

fmt: ## Formats the Rust code
	@cargo fmt --all

docs: ## Rewrites the reference pages from the function declarations
	@cargo run --release --quiet -- docs

clean: ## Removes build outputs; keeps libraries, models and data
	@cargo clean
