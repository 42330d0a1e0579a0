# Each target sets up what it needs in .venv by itself; only Python 3.10 or newer with venv is asked for, or with uv.

PYTHON ?= python3
BIN := .venv/bin
# uv, where it is installed, also in .venv, is done in a tenth of pip's time.
UV := $(or $(shell command -v uv 2>/dev/null),$(wildcard $(BIN)/uv))
VENV := $(if $(UV),$(UV) venv --quiet --allow-existing --python "$(PYTHON)","$(PYTHON)" -m venv)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip -qq --disable-pip-version-check install --no-compile)
# Their own places are in the home directory.
export PIP_CACHE_DIR := $(CURDIR)/.venv/cache
export UV_CACHE_DIR := $(CURDIR)/.venv/uv
export VIRTUALENV_OVERRIDE_APP_DATA := $(CURDIR)/.venv/virtualenv
# What Python has compiled: without it each process of the tests would compile all of Salt.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test soak campaign qmail-test bench lint audit docs map picture matrix mutants release clean

demo: .venv/salt
	$(BIN)/python -m demo

# By several processes; one test: make test ARGS="-n0 tests/unit/test_docs.py". With the soak among them: SOAK=yes.
test: .venv/tests
	$(if $(SOAK),$(CAMPAIGNS)) $(BIN)/python -m pytest -n auto $(if $(SOAK),,-m "not soak") $(ARGS)

# The same again and again, for minutes: restarts with mail in flight, a mailbox owner who swaps what is written to, kills.
# Two hours for each campaign: make soak SECONDS=7200. The seed that a failure shows repeats it: make soak SEED=1234.
SECONDS ?= 20
CAMPAIGNS = SECONDS_EACH=$(SECONDS) $(if $(SEED),SEED=$(SEED))
soak: .venv/tests
	$(CAMPAIGNS) $(BIN)/python -m pytest -n auto -m soak $(ARGS)

# As much of a campaign as is wanted, by chance from a seed: ARGS="kill 15m 7" is the campaign, its minutes, the seed.
campaign: .venv/tests
	$(BIN)/python -m tests.support.campaigns $(ARGS)

# Against the real qmail at /var/qmail, as root, where nobody uses it: it is changed meanwhile, and put back. Skipped with
# the reason where there is none, where qmail-send runs, and where anything is in the queue.
qmail-test: .venv/tests
	QMAIL_TEST=1 $(BIN)/python -m pytest tests/qmail $(ARGS)

# Beside what people use today; takes half an hour, and wants a machine that does nothing else. See benchmarks/README.md.
bench: .venv/tests
	$(BIN)/python benchmarks/bench_formula.py
	$(BIN)/python benchmarks/bench_ssh.py
	$(BIN)/python benchmarks/bench_fleet.py
	$(BIN)/python benchmarks/bench_fleet.py --runner
	$(BIN)/python benchmarks/bench_log.py
	$(BIN)/python benchmarks/bench_maildir.py
	$(BIN)/python benchmarks/bench_queue.py
	$(BIN)/python benchmarks/bench_maildir.py --growth --rounds 1
	$(BIN)/python benchmarks/bench_queue.py --growth --rounds 1

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	$(BIN)/salt-lint --severity qmail-doublebounce/*.sls
	$(BIN)/codespell
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(wildcard _beacons _modules _runners _states) qmail_doublebounce_formula
	$(BIN)/python -m tests.support.audit --where-possible

# The same as at the end of lint, but it fails where nothing can be asked. ARGS="--ignore-vuln ID" lets one problem pass.
audit: .venv/lint
	$(BIN)/python -m tests.support.audit $(ARGS)

# The pages and the docstrings as a site, in .docs/html.
docs: .venv/docs
	$(BIN)/python -m tests.support.site lay .docs/source
	$(BIN)/sphinx-build -c docs -E -W --keep-going -n --quiet -d .docs/doctrees .docs/source .docs/html
	$(BIN)/python -m tests.support.site check .docs/html

# What is read from the code: whom each room is for, the map in CONTRIBUTING.md, and docs/functions.md.
map:
	$(PYTHON) -m tests.support.rooms
	$(PYTHON) -m tests.support.house_map
	$(PYTHON) -m tests.support.functions > docs/functions.md

# The picture of the page in README, by the machine's chromium.
picture: .venv/tests
	$(BIN)/python -m tests.support.picture

# The environments are made at the same time, the tests run one after the other: they use all processors by themselves.
matrix: .venv/matrix
	$(BIN)/tox run-parallel --notest --parallel-no-spinner $(ARGS)
	$(BIN)/tox run $(ARGS)

# Break what writes, deletes, signals or locks, line by line, and report what no test notices; as root, beside this machine
# rather than on it, in a copy. Takes hours. One module, and all of its mutants: ARGS="--sample 1000 qmail_base_lock".
mutants: .venv/tests .venv/mutants
	$(BIN)/python -m tests.support.mutants $(ARGS)

# What people install, in dist/: the same bytes from the same commit, whoever builds it. See "A release" in CONTRIBUTING.md.
release: .venv/release
	$(BIN)/python -m release $(ARGS)

clean:
	rm -rf dist .venv .tox .demo .docs .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# The project itself is not installed: tests and demo take it from the tree.
define install
@echo "Installing into .venv, once: $(or $(1),salt)$(if $(UV),, (pip takes a few minutes))"
@$(BIN)/python -m tests.support.requirements $(1) >$@.txt
$(if $(1),,@$(BIN)/python -m tests.support.left_out .venv >>$@.txt)
@$(INSTALL) -r $@.txt || \
	{ echo "Cannot install what setup.cfg asks for. The first run needs PyPI, and where that has no wheel for this Python, gcc and its headers." >&2; exit 1; }
endef

.venv/salt: setup.cfg
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no $(PYTHON). Install Python 3.10 or newer, or name one: make PYTHON=/usr/local/bin/python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" tests/support/ready.py $(if $(UV),,venv)
	$(VENV) .venv
	$(call install)
	@touch $@

.venv/tests .venv/lint .venv/docs .venv/matrix .venv/mutants .venv/release: .venv/%: .venv/salt
	$(call install,$*)
	@touch $@
