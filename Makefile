# The two commands of the README are `make up` and `make test`. PYTHON=... chooses the interpreter, ARGS=... adds
# arguments (`make up ARGS="--port-offset 100"`, `make test ARGS="-k allocator"`).

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --constraint requirements/pins.txt
# A plain .pth file instead of an import hook: every start of an interpreter is some 10 ms quicker.
EDITABLE := --config-settings editable_mode=compat --editable

.PHONY: install up down test check soak vm bench sim clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements/pins.txt requirements/venv.sh
	requirements/venv.sh $(VENV)
	$(PIP) $(EDITABLE) .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) $(EDITABLE) '.[test]'
	touch $@

# What `meseta bench` measures beside us.
$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) $(EDITABLE) '.[bench]'
	touch $@

up: install
	$(VENV)/bin/meseta up --agents 2 --detach $(ARGS)

down: install
	$(VENV)/bin/meseta down $(ARGS)

# Lint and types.
check: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# Everything at CI size.
test: check
	tests/compat/setup_clients.sh
	tests/setup_zookeeper.sh
	tests/setup_runc.sh
	tests/setup_docker.sh
	tests/setup_redis.sh
	tests/setup_vm.sh
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# The bars in full: takes long.
soak: $(VENV)/.installed-test $(VENV)/.installed-bench
	tests/setup_zookeeper.sh
	tests/setup_runc.sh
	tests/setup_docker.sh
	tests/setup_redis.sh
	tests/setup_vm.sh
	$(VENV)/bin/python -m pytest -m soak --timeout 3600 -s $(ARGS)
	$(VENV)/bin/meseta bench bars
	$(VENV)/bin/python -m tests.sim --seeds 0:10000
	$(VENV)/bin/python -m tests.sim cron --seeds 0:2000

# What holds tasks, on machines with all kinds of control groups: a part of `make soak`.
vm: $(VENV)/.installed-test
	tests/setup_vm.sh
	$(VENV)/bin/python -m pytest -m 'soak or not soak' --timeout 3600 -s tests/vm $(ARGS)

bench: $(VENV)/.installed-bench
	$(VENV)/bin/meseta bench bars $(ARGS)

# `make sim SEED=17` replays one simulated history.
sim: $(VENV)/.installed-test
	SEED=$(SEED) $(VENV)/bin/python -m pytest tests/sim $(ARGS)

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
