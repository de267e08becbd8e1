# Two commands: `make demo` and `make test`. Both create the environment and may be repeated.
PYTHON ?= python3.11
# torch's CPU index, for CPU machines whose package index offers only the CUDA build (README, "GPU or not"). No default.
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# pip's find-links is where a local CPU wheel of torch is known on some machines; uv does not read it by itself.
LINKS = $${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)}}
INSTALL = UV_FIND_LINKS="$(LINKS)" $(UV) pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode \
	$(if $(TORCH_INDEX),--index $(TORCH_INDEX) --index-strategy unsafe-best-match)

export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test check fast bench bench-gpu soak docs repro all install install-dev wheel lock audit digests clean help

help: ## Shows this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

demo: install ## Installs, runs the pipeline on the simulated industrial pair, prints where the results are
	@isthmus run industrial

test: install-dev check ## Installs, then all checks and tests
	@pytest -n 2 --dist worksteal -m "not soak" -q --durations 40 --durations-min 3

check: install-dev ## Format, lint, types, import floors
	@ruff format --check -q . || (echo "run: ruff format ." && exit 1)
	@ruff check -q .
	@lint-imports --no-cache > $(VENV)/lint-imports.log 2>&1 & floors=$$!; mypy; types=$$?; \
		wait $$floors || { cat $(VENV)/lint-imports.log; exit 1; }; exit $$types

fast: install-dev ## The tests that take seconds
	@pytest -n 2 -m "not slow and not soak" -q

bench: install-dev ## Measures speed against its goals, half an hour; writes docs/performance.md; IMAGES=FOLDER compares features too
	@python -m benchmarks.embed --write . $(if $(IMAGES),&& python -m benchmarks.embed --images $(IMAGES) --write .)
	@python -m benchmarks.ingest --write .
	@python -m benchmarks.training --write .
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT \
		&& python -m benchmarks.demo --project "$$work/demo" --write . \
		&& python -m benchmarks.overheads --project "$$work/demo" --write . \
		&& python -m benchmarks.serving --project "$$work/demo" --write .

bench-gpu: install-dev ## Measures embed and full training on a GPU against its peak; writes docs/performance.md
	@python -m benchmarks.gpu --write .

soak: install-dev ## The long tests: chaos, kills, races, 20,000 images; writes docs/reliability.md
	@pytest -m soak -q --timeout 3600

docs: install-dev ## Builds the documentation's site, dist/docs/index.html
	@NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict
	@echo dist/docs/index.html

repro: install ## All shipped scenarios
	@dvc repro

all: check test repro ## Everything

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || (echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" && exit 2)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/hashes/uv.lock

# --no-deps: the lock names every package, so nothing (no CUDA package either) comes that is not written there. Each file
# must have a hash of .ci/hashes; of torch the CPU build where it is offered, else the package index's.
$(VENV)/installed: requirements.lock .ci/hashes/packages.lock pyproject.toml src/isthmus_torchvision.pth src/isthmus/core/torchvision_schemas.py | $(UV)
	@echo "installing the locked packages into $(VENV)"
	@.ci/hashed requirements.lock > $(VENV)/packages.lock
	@$(INSTALL) --require-hashes -r $(VENV)/packages.lock
	@$(INSTALL) --require-hashes -r .ci/hashes/torch-cpu.lock 2>/dev/null || $(INSTALL) --require-hashes -r .ci/hashes/torch.lock
	@$(INSTALL) -e .
	@$(BIN)/python -c 'import torch' || (echo "torch cannot be imported: the package index gave its CUDA build. Run: make TORCH_INDEX=<torch's CPU index> $(MAKECMDGOALS)" && exit 2)
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	@.ci/hashed requirements-dev.lock > $(VENV)/packages-dev.lock
	@$(INSTALL) --require-hashes -r $(VENV)/packages-dev.lock
	@touch $@

wheel: | $(UV) ## Builds dist/isthmus-VERSION-py3-none-any.whl, to be installed where a project lies
	@$(UV) build --quiet --wheel --out-dir dist .
	@ls dist/*.whl

lock: | $(UV) ## Resolves pyproject.toml again into the two lock files and the hashes of all packages
	@UV_FIND_LINKS="$(LINKS)" .ci/lock $(UV)

audit: install-dev ## Checks the locked packages for known vulnerabilities; needs a network
	@$(UV) tool run --python $(BIN)/python pip-audit --strict --disable-pip --no-deps -r requirements-dev.lock

digests: ## Pins the images of Dockerfile and compose.yaml to the digests of their tags; needs docker and a network
	@.ci/digests

clean: ## Removes the environment and all results, not raw data
	@rm -rf $(VENV) out .isthmus
