# Everything sets itself up in .venv, from the pinned versions of the lock files.
# Needs Python 3.11 or later, make and git; no root, no installed server.
#
#   make demo [ARGS=--once]   the proxy before a local stack of real servers, shown at work
#   make test [ARGS=...]      all tests, against real servers
#   make setup                the virtual environment, and what `make compiled` makes
#   make compiled             the package with its hot path compiled, if a C compiler is here
#   make test-compiled        the tests of the data path once more, on the compiled package
#   make nightly              the cache's promise over ten minutes and a million operations
#   make mutations [ARGS=..]  the cache's guards taken out one by one: their tests must fail
#   make suites [ARGS=...]    drivers' own test suites, direct and through Penstock, compared
#   make bench [ARGS=...]     Penstock beside PgBouncer and pgpool-II; writes docs/performance.md
#   make lint                 format, lint, types, import contracts
#   make check                that, and the unit tests
#   make format               rewrite the code as `make check` wants it
#   make lock                 pin the newest versions that pyproject.toml allows
#   make clean                remove .venv and everything else that was made here

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# Scripts in a virtual environment name its path, so a moved or copied one is made again.
STAMP := $(VENV)/.installed-at$(subst /,-,$(CURDIR))

SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python3.14; do \
	"$$name" -c '$(SUITABLE)' 2>/dev/null && echo "$$name" && break; done)

# uv installs into the environment it is given and must not fetch interpreters of its own.
UV := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
COMPILE := $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --custom-compile-command "make lock" --no-emit-index-url
TREE := build/compiled
COMPILED := $(TREE)/.made
# Half of the tests wait for servers and time-outs, so more run at once than there are cores.
PYTEST_PARALLEL := -n $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 3 ? 3 : n > 4 ? 4 : n))) \
	--dist loadfile

NOT_NIGHTLY := $(if $(filter no,$(NIGHTLY)), and not nightly)

.PHONY: setup compiled demo test test-compiled nightly mutations suites regress bench lint check format lock clean
.DEFAULT_GOAL := setup

setup: $(STAMP) compiled

# The stamp is written last: an interrupted set-up is taken up again.
$(STAMP): requirements.txt requirements-build.txt pyproject.toml Makefile
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11 or later with the venv module was found;" \
			"install one (Debian: apt-get install python3 python3-venv)" \
			"or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi
	@if [ ! -e "$@" ] && ls $(VENV)/.installed-at* >/dev/null 2>&1; then rm -rf $(VENV); fi
	@rm -f "$@"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing what the lock files name"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements-build.txt
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.txt || { \
		echo "uv could not install; trying pip, which has settings of its own" >&2; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
			-r requirements.txt; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch "$@"

# A second copy of the package: the sources in proxy/ are never shadowed by an older compiled form.
# $(BIN)/penstock runs it as long as it was made of what the sources are (proxy/launch.py).
compiled: $(COMPILED)

$(COMPILED): $(STAMP) setup.py $(shell find proxy -name '*.py' -o -name '*.[ch]')
	@echo "Compiling the hot path"
	@rm -rf $(TREE) && mkdir -p build
	@made_of=$$($(BIN)/python proxy/launch.py .) && { \
		PENSTOCK_COMPILE=yes $(BIN)/python setup.py --quiet build --build-lib $(TREE) \
			>build/compile.log 2>&1 && echo "$$made_of" >$(TREE)/made-of \
		|| { echo "could not compile, see build/compile.log; it will run interpreted" >&2; \
			rm -rf $(TREE); PENSTOCK_COMPILE=no $(BIN)/python setup.py --quiet build \
			--build-lib $(TREE) >>build/compile.log 2>&1; }; }
	@touch "$@"

demo: $(COMPILED)
	@PYTHONPATH=$(TREE) $(BIN)/penstock demo $(ARGS)

test-compiled: $(COMPILED)
	PENSTOCK_TREE=$(CURDIR)/$(TREE) $(BIN)/pytest $(PYTEST_PARALLEL) -m "not serial" \
		tests/unit/wire tests/unit/auth tests/unit/session tests/unit/sql/test_skeleton.py \
		tests/integration/session tests/integration/sharding \
		$(patsubst %,tests/integration/cache/test_%.py,admission results write_back) \
		$(patsubst %,tests/integration/auth/test_%.py,methods encrypted throttle) \
		$(patsubst %,tests/faults/session/test_%.py,fast_replicas own_writes) \
		$(patsubst %,tests/compat/test_%.py,asyncpg pgbench psycopg psycopg_pipeline shared_backends node) \
		$(ARGS)

# Tests that measure time or memory run alone, after the others. NIGHTLY=no leaves the longest out.
test: $(STAMP)
	$(BIN)/pytest $(PYTEST_PARALLEL) -m "not serial$(NOT_NIGHTLY)" $(ARGS)
	$(BIN)/pytest -m serial $(ARGS) || [ $$? -eq 5 ]

nightly: $(STAMP)
	PENSTOCK_HISTORY_SECONDS=660 PENSTOCK_HISTORY_OPERATIONS=1000000 \
		$(BIN)/pytest -s tests/faults/cache/test_history.py $(ARGS)

mutations: $(STAMP)
	$(BIN)/python -m tests.mutations $(ARGS)

# ARGS=--help lists what can be chosen; Ctrl-C ends it at any time.
suites: $(STAMP)
	@$(BIN)/python -m tests.suites $(ARGS)

# PostgreSQL's own regression tests, directly and through Penstock. Needs Debian's postgresql-15 (or
# another major version), postgresql-contrib, gcc and access to the distribution's package mirror.
regress: $(STAMP)
	$(BIN)/python -m tests.suites.postgres $(ARGS)

bench: $(COMPILED)
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy proxy tests $(if $(wildcard benchmarks/*.py benchmarks/*/*.py),benchmarks)
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest $(PYTEST_PARALLEL) -q tests/unit

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)
	$(COMPILE) requirements-build.in -o requirements-build.txt
	$(COMPILE) pyproject.toml --extra local --extra dev -o requirements.txt
	$(COMPILE) pyproject.toml --constraint requirements.txt -o requirements-runtime.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
	find proxy tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
