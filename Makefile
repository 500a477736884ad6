# Every target is a job of tools/setup_env.py, which first makes or completes .venv.
# Arguments for the command behind a target: make test ARGS="-k pcgrad"
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
ARGS ?=

.PHONY: setup demo test test-fast lint docs bench clean

setup demo test test-fast lint docs bench:
	@$(PYTHON) tools/setup_env.py $@ $(ARGS)

clean:
	rm -rf .venv build dist docs/_build docs/_generated .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
