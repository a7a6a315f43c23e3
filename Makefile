# Every command a person or CI runs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR):$(CURDIR)/gen

.DEFAULT_GOAL := help
.PHONY: help install lock proto proto-check proto-release format lint k8s-check unit contract \
    component e2e fault interop packages test brokers up down demo replay bench ci clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.stamp ## create .venv from the lock (Python 3.11+)

$(VENV)/.stamp: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header

lock: ## remake the locks: all, what a service runs on, what generates protos
	$(UV_COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(UV_COMPILE) -c requirements.lock --extra postgres pyproject.toml -o requirements-run.lock
	printf 'googleapis-common-protos\ngrpcio-tools\n' | \
	    $(UV_COMPILE) -c requirements.lock - -o requirements-proto.lock

PROTO_FILES := $(shell find protos -name '*.proto' | sort)
PROTO_INCLUDES = -I protos -I $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PROTOC = $(BIN)/python -W ignore -m grpc_tools.protoc $(PROTO_INCLUDES)
IMAGE = gen/image.binpb

proto: gen/.stamp ## generate Python from protos/ into gen/

gen/.stamp: $(PROTO_FILES) $(VENV)/.stamp
	@rm -rf gen.new && mkdir gen.new
	@PATH=$(BIN):$$PATH $(PROTOC) --python_out=gen.new --grpc_python_out=gen.new \
	    --mypy_out=quiet:gen.new --mypy_grpc_out=quiet:gen.new $(PROTO_FILES)
	@rm -rf gen && mv gen.new gen && touch $@

$(IMAGE): gen/.stamp
	@$(PROTOC) --include_imports --include_source_info --descriptor_set_out=$@ $(PROTO_FILES)

proto-check: $(IMAGE) ## lint, format and breaking changes of protos/, offline
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint $(IMAGE) --path axbridge
	$(BIN)/buf breaking $(IMAGE) --against protos/released.binpb --path axbridge

proto-release: $(VENV)/.stamp ## make today's protos the base that proto-check compares with
	@$(PROTOC) --include_imports --descriptor_set_out=protos/released.binpb $(PROTO_FILES)

KUBERNETES = 1.37.0
MANIFESTS = $(filter-out %/kustomization.yaml,$(wildcard deploy/k8s/*.yaml))

k8s-check: $(VENV)/.stamp ## validate deploy/k8s against Kubernetes' schemas and our own rules, offline
	$(BIN)/kubernetes-validate --strict --quiet -k $(KUBERNETES) $(MANIFESTS)
	$(BIN)/python -m pytest -q tests/unit/deploy/test_k8s.py

READY = gen/.stamp
PYTEST = $(BIN)/python -m pytest -q
LOCAL = $(BIN)/python -m deploy.local

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## format, style, types, import contracts
	$(BIN)/ruff format --diff .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY) ## pure tests, no broker
	$(PYTEST) -n 2 tests/unit tests/protos tests/test_house.py

contract: $(READY) ## one suite per port, on fakes and on real brokers
	$(PYTEST) tests/contract

component: $(READY) ## each service on real brokers, its neighbours stubbed
	$(PYTEST) tests/component

e2e: $(READY) ## the main job over all processes
	$(PYTEST) tests/e2e

fault: $(READY) ## kill, freeze, lose and misdate things, then check what holds (needs libfaketime)
	$(PYTEST) tests/fault tests/interop/test_clock_steps.py

interop: $(READY) ## with programs that nobody here wrote (needs Go and `make packages`)
	$(PYTEST) tests/interop

PACKAGES = libfaketime postgresql kamailio kamailio-json-modules kamailio-utils-modules sip-tester

packages: ## install the system packages that interop and fault need (Debian, as root)
	@dpkg-query -W $(PACKAGES) >/dev/null 2>&1 || \
	    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $(PACKAGES); }

test: $(READY) ## every test that needs no system package
	$(PYTEST) -n 2 --dist loadfile --ignore=tests/interop tests

brokers: $(READY) ## run Kafka and Valkey until ctrl-C
	$(LOCAL) brokers

up: $(READY) ## run the whole system on loopback until ctrl-C
	$(LOCAL) up

down: $(READY) ## stop what `make up` runs in another terminal
	$(LOCAL) down

demo: $(READY) ## set up everything and show the main job
	$(LOCAL) demo

replay: $(READY) ## replay taxi trips as orders: make replay TRIPS=file.csv
	$(LOCAL) replay $(if $(TRIPS),"$(TRIPS)",$(error say TRIPS=file.csv))

bench: $(READY) ## measure, as ratios in one run
	$(BIN)/python -m bench

ci: proto-check lint k8s-check test interop ## everything a change must pass

clean: ## remove what make made; keeps .local
	rm -rf $(VENV) gen gen.new .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
