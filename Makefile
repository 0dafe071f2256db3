# make run: the environment, then the main job on the committed sample. make test: the whole suite.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .bench/venv
PEERS_STAMP := $(PEERS)/.installed
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: run test fuzz lint proto bench accuracy mutants ui clean

run: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mlflow run . --env-manager local --experiment-name bookends

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal

# FUZZ mutated inputs for each of the six fuzzers.
fuzz: $(STAMP)
	BOOKENDS_FUZZ=$(or $(FUZZ),2000) $(BIN)/python -m pytest tests/fuzz --timeout 1800

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What is generated from the .proto, after a change of it.
proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
		experiments/serve/rpc/recommender.proto

bench: $(STAMP) $(PEERS_STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

# Where the data sets lie is for DATA to say; those that are not there are left out.
accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy --data $(or $(DATA),data)

# Faults put into the code one at a time: do the tests notice? MODULES narrows it, by dotted names.
mutants: $(BIN)/mutmut
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(foreach name,$(MODULES),'$(name).*')
	$(BIN)/python -m benchmarks.mutants $(MODULES)

ui: $(STAMP)
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# A peer that cannot be installed is shown as not measured.
$(PEERS_STAMP): benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $(PEERS_STAMP)

$(BIN)/mutmut: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mutmut==3.8.1
	touch $@

clean:
	rm -rf $(VENV) artifacts/cache mutants
