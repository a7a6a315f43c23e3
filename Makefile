# Every command a person or CI runs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR):$(CURDIR)/gen

.DEFAULT_GOAL := help
.PHONY: help install lock proto proto-check format lint unit contract component e2e test k8s-check ci clean

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
	$(UV_COMPILE) -c requirements.lock pyproject.toml -o requirements-run.lock
	printf 'googleapis-common-protos\ngrpcio-tools\n' | \
	    $(UV_COMPILE) -c requirements.lock - -o requirements-proto.lock

PROTO_FILES := $(shell find protos -name '*.proto' | sort)
PROTO_INCLUDES = -I protos -I $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PROTOC = $(BIN)/python -W ignore -m grpc_tools.protoc $(PROTO_INCLUDES)
IMAGE = gen/image.binpb

proto: gen/.stamp ## generate Python from protos/ into gen/

gen/.stamp: $(PROTO_FILES) $(VENV)/.stamp
	@rm -rf gen && mkdir -p gen
	@PATH=$(BIN):$$PATH $(PROTOC) --python_out=gen --grpc_python_out=gen --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTO_FILES)
	@touch $@

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
