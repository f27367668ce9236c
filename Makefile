# HerdLens: its commands. Everything runs in .venv, which `make setup` creates and keeps up to date.

PYTHON ?= python3
PORT ?= 8501
HOST ?= localhost
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PINS := requirements.txt requirements-dev.txt
SERVER_VENV := .venv-server
SERVER_DEVICE ?= $(shell command -v nvidia-smi >/dev/null && echo gpu || echo cpu)
SERVER_PINS := requirements-server$(if $(filter cpu,$(SERVER_DEVICE)),-cpu).txt
SERVER_STAMP := $(SERVER_VENV)/.installed-$(SERVER_DEVICE)-$(shell cat $(SERVER_PINS) | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(shell cat $(PINS) | cksum | cut -d' ' -f1)

.PHONY: setup setup-server serve app test test-slow test-server check bench eval lock browser clean

setup: $(STAMP)

$(STAMP): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "HerdLens needs CPython 3.11; set PYTHON=… to one.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@rm -f $(VENV)/.installed-*
	@touch $@

# vLLM needs other versions of torch and transformers. Its pins are whole, so nothing is resolved: the CPU build names a
# torch that only PyTorch's own index has, and works with the one of PyPI.
setup-server: $(SERVER_STAMP)

$(SERVER_STAMP): $(SERVER_PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "HerdLens needs CPython 3.11; set PYTHON=… to one.")'
	$(PYTHON) -m venv $(SERVER_VENV)
	$(SERVER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(SERVER_PINS)
	@rm -f $(SERVER_VENV)/.installed-*
	@touch $@

# Serves HERDLENS_PROFILE (default gpu) at HERDLENS_SERVER_URL; ARGS are further options of vLLM.
serve: setup setup-server
	HERDLENS_PROFILE=$${HERDLENS_PROFILE:-gpu} $(BIN)/python -m agent serve --device $(SERVER_DEVICE) -- $(ARGS)

app: setup
	@if [ "$(HOST)" != localhost ] && [ "$(HOST)" != 127.0.0.1 ]; then \
	  echo "Listening on $(HOST): everyone who can reach this machine on port $(PORT) can see the videos and reports."; fi
	$(BIN)/python -m streamlit run app.py --server.port=$(PORT) --server.address=$(HOST)

# Two processes, as many as the smallest machine has cores; whole files, because what their tests share is made once per file.
test: setup browser
	$(BIN)/python -m pytest -m "not slow and not server" -n $(WORKERS) --dist loadfile

# The integration tests against a real vLLM server, which they start and stop themselves.
test-server: setup setup-server
	$(BIN)/python -m pytest tests/server -m "server and not slow"

test-slow: setup setup-server
	$(BIN)/python -m pytest -m slow

# The browser test needs Debian's Chromium; it is installed where that is allowed, else the test says what to do.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-noto-cjk >/dev/null; } \
	  || echo "Chromium is missing; install it with: sudo apt-get install chromium chromium-driver"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m evaluation.bench

eval: setup
	$(BIN)/python -m evaluation demo
	$(BIN)/python -m evaluation retrieval clips

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --quiet requirements.in -o requirements.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --quiet requirements-dev.in -o requirements-dev.txt

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
