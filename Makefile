# Everything that can be done here. `make help` lists it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
GRPCIO_VENV := .venv-grpcio
SUITE_VENV := .venv-suite
SDK_VENV := .venv-sdks
DAPR_VENV := .venv-dapr
GENERATED := examples/generated
TEST_GENERATED := tests/generated
VIRTUFIN := python/virtufin
VIRTUFIN_STUBS := $(VIRTUFIN)/src/virtufin/api/client/gateway_pb2.py

export PIP_DISABLE_PIP_VERSION_CHECK = 1

NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: help run up test test-rust test-python test-sdks test-console check bench peer-suite interop conformance proxies wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/release $(GENERATED)/stamp ## build, then run the example: a server and a client with all four kinds of calls
	$(VENV)/bin/python examples/weather/run.py --stack $(or $(STACK),oxgrpc)

up: ## build, then run the gateway and its backends (UP="--ephemeral")
	cargo run --release -p oxgrpc-cli -- up $(UP)

test: test-rust test-python test-sdks test-console ## run all tests

test-rust: $(VENV)/stamp build/nats-server
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace
	cargo test --workspace --doc
else
	cargo test --workspace
endif

test-python: $(VENV)/dev $(GRPCIO_VENV)/stamp $(GENERATED)/stamp $(TEST_GENERATED)/stamp $(VIRTUFIN_STUBS)
	$(VENV)/bin/python -m pytest --ignore=tests/virtufin_client --ignore=tests/dapr_sdk --ignore=tests/console $(PYTEST)

# The client SDKs run on oxgrpc alone, from their sources, and on genuine grpcio alone, from their wheels.
# Dapr's SDK is stock and runs on the gateway.
test-sdks: $(VENV)/dev $(SDK_VENV)/installed $(DAPR_VENV)/stamp $(VIRTUFIN_STUBS) $(TEST_GENERATED)/stamp
	cargo build -p oxgrpc-cli
	cargo build -p oxgrpc-gateway --example dapr
	$(VENV)/bin/python -m pytest tests/virtufin_client $(PYTEST)
	$(SDK_VENV)/bin/python -m pytest tests/virtufin_client $(PYTEST)
	$(VENV)/bin/python -m pytest tests/dapr_sdk $(PYTEST)

# The console, clicked through in Debian's Chromium.
test-console: $(VENV)/dev $(VIRTUFIN_STUBS) $(TEST_GENERATED)/stamp
	tools/need chromium=chromium chromedriver=chromium-driver
	cargo build -p oxgrpc-cli
	$(VENV)/bin/python -m pytest tests/console $(PYTEST)

check: $(VENV)/dev $(GENERATED)/stamp $(TEST_GENERATED)/stamp $(VIRTUFIN_STUBS) ## format, lint and type-check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/basedpyright --verifytypes oxgrpc --ignoreexternal

bench: $(VENV)/release $(GRPCIO_VENV)/stamp ## measure against genuine grpcio and tonic (BENCH="--rounds 3 --json FILE")
	cargo build --release --manifest-path benches/rivals/Cargo.toml
	OXGRPC_VENV=$(VENV) GRPCIO_VENV=$(GRPCIO_VENV) RIVALS=benches/rivals/target/release \
		$(VENV)/bin/python benches/bench.py $(BENCH)

peer-suite: $(VENV)/dev $(GRPCIO_VENV)/stamp $(SUITE_VENV)/stamp ## grpcio's own tests; RATCHET=1 fails where one that passed does not
	$(VENV)/bin/python -m conformance.suite --python $(SUITE_VENV)/bin/python --compiler $(GRPCIO_VENV)/bin/python \
		$(if $(RATCHET),--ratchet) $(SUITE)

interop: $(VENV)/dev $(GRPCIO_VENV)/stamp ## grpc's interop cases with grpcio, tonic, grpc-js, grpc-go and grpc-java
	$(VENV)/bin/python -m conformance.interop --compiler $(GRPCIO_VENV)/bin/python $(INTEROP)

conformance: $(VENV)/dev $(GRPCIO_VENV)/stamp ## connectrpc's conformance suite; RATCHET=1 compares with the table and writes nothing
	$(VENV)/bin/python -m conformance.connect --compiler $(GRPCIO_VENV)/bin/python \
		$(if $(RATCHET),--ratchet) $(CONFORMANCE)

proxies: $(VENV)/dev $(GRPCIO_VENV)/stamp ## calls through nghttpx, haproxy and nginx (PROXIES="--only haproxy --quick")
	tools/need nghttpx=nghttp2-proxy haproxy=haproxy nginx=nginx
	$(VENV)/bin/python -m conformance.proxies --grpcio $(GRPCIO_VENV)/bin/python $(PROXIES)

wheel: $(VENV)/stamp ## build release wheels in dist/: the engine's and the command line's
	$(VENV)/bin/maturin build --release --out dist
	cd python/cli && $(CURDIR)/$(VENV)/bin/maturin build --release --out $(CURDIR)/dist
	@ls -l dist

clean: ## remove what was built
	rm -rf target benches/rivals/target build conformance/interop/grpc-js/node_modules dist $(VENV) $(GRPCIO_VENV) $(SUITE_VENV) $(SDK_VENV) $(DAPR_VENV) $(GENERATED) $(TEST_GENERATED)
	rm -f $(dir $(VIRTUFIN_STUBS))*_pb2*.py*

VIRTUFIN_PROTO := $(wildcard proto/virtufin/*.proto) scripts/create_client.py
VIRTUFIN_SOURCES := $(VIRTUFIN_PROTO) $(filter-out %_pb2.py %_pb2_grpc.py,$(wildcard $(VIRTUFIN)/src/virtufin/*.py \
	$(VIRTUFIN)/src/virtufin/*/*.py $(VIRTUFIN)/src/virtufin/*/*/*.py)) $(VIRTUFIN)/pyproject.toml $(VIRTUFIN)/README.md

# The native module lies beside the Python code, built either for testing or for use: whichever was asked for last.
SOURCES := $(shell find crates python/oxgrpc -name '*.rs' -o -name '*.toml') Cargo.toml Cargo.lock pyproject.toml

$(VENV)/dev: $(VENV)/stamp $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --quiet
	rm -f $(VENV)/release && touch $@

$(VENV)/release: $(VENV)/stamp $(SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --release --quiet
	rm -f $(VENV)/dev && touch $@

# grpcio's add-ons run on oxgrpc in the tests: without grpcio, which they ask for.
$(VENV)/stamp: tests/requirements.txt tests/requirements-addons.txt
	tools/make-venv $(PYTHON) $(VENV) $^
	touch $@

$(GRPCIO_VENV)/stamp: tests/requirements-grpcio.txt
	tools/make-venv $(PYTHON) $(GRPCIO_VENV) $<
	touch $@

# grpcio's own tests run where genuine grpcio is not: nothing that asks for it may bring it.
$(SUITE_VENV)/stamp: conformance/requirements.txt
	PIP_NO_DEPS=1 tools/make-venv $(PYTHON) $(SUITE_VENV) $<
	touch $@

$(SDK_VENV)/stamp: tests/requirements-sdks.txt
	tools/make-venv $(PYTHON) $(SDK_VENV) $<
	touch $@

# Debian's nats-server: where it cannot be installed, the tests that want one say so and are left out.
build/nats-server:
	tools/install-nats-server
	mkdir -p build && touch $@

$(DAPR_VENV)/stamp: tests/requirements-dapr.txt
	tools/make-venv $(PYTHON) $(DAPR_VENV) $<
	touch $@

$(SDK_VENV)/installed: $(SDK_VENV)/stamp $(VIRTUFIN_SOURCES)
	$(SDK_VENV)/bin/pip install --quiet --no-deps --no-build-isolation --force-reinstall ./$(VIRTUFIN)
	touch $@

# Stock grpcio-tools generates the stubs of the example and of the tests, and mypy-protobuf their types.
PROTOC := $(GRPCIO_VENV)/bin/python -m grpc_tools.protoc \
	--plugin=protoc-gen-mypy=$(GRPCIO_VENV)/bin/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(GRPCIO_VENV)/bin/protoc-gen-mypy_grpc

$(GENERATED)/stamp: examples/weather/weather.proto $(GRPCIO_VENV)/stamp
	mkdir -p $(GENERATED)
	$(PROTOC) -I examples/weather --python_out=$(GENERATED) --grpc_python_out=$(GENERATED) \
		--mypy_out=quiet:$(GENERATED) --mypy_grpc_out=quiet:$(GENERATED) weather.proto
	touch $@

$(TEST_GENERATED)/stamp: tests/my_service.proto $(GRPCIO_VENV)/stamp
	mkdir -p $(TEST_GENERATED)
	$(PROTOC) -I tests --python_out=$(TEST_GENERATED) --grpc_python_out=$(TEST_GENERATED) \
		--mypy_out=quiet:$(TEST_GENERATED) --mypy_grpc_out=quiet:$(TEST_GENERATED) my_service.proto
	touch $@

$(VIRTUFIN_STUBS): $(VIRTUFIN_PROTO) $(GRPCIO_VENV)/stamp
	$(GRPCIO_VENV)/bin/python scripts/create_client.py --output $(VIRTUFIN)/src
