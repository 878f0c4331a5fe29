# Each target makes what it needs (.venv, packages, a software GL library) and can be repeated.
#
#   make demo        a tiny pi0 learns Lift and improves itself: runs/demo/report.html
#   make demo-full   the same for seeds 0, 1, 2, with filtered behaviour cloning beside it
#   make libero      the same on one task of LIBERO with its own assets: runs/libero/eval/report.html
#   make test        lint, types and all tests
#   make lint        ruff and basedpyright alone
#   make bench       scripts that print what they compare
#   make torture     kills, power cuts, full disks, damage, bad input: docs/reliability.md (half an hour; PARTS=kills)
#   make api         pages of the library's docstrings: docs/api/index.html
#   make constraints .venv anew with the newest releases, written down in constraints.txt
#
# Versions are those of constraints.txt. For another set, .venv is made anew:
#   CONSTRAINTS= make test                          newest releases
#   CONSTRAINTS=constraints-lowest.txt make test    lower bounds of pyproject.toml

PYTHON := .venv/bin/python
RUN := runs/demo
LIBERO_RUN := runs/libero
PARTS :=
BENCHES := flops step sample memory conversion rollout

.PHONY: demo demo-full libero test lint bench torture api constraints

demo:
	@scripts/prepare.sh demo
	@scripts/demo.sh "$(RUN)"

demo-full:
	@scripts/prepare.sh demo
	@for seed in 0 1 2; do scripts/demo.sh "$(RUN)_full_$$seed" full $$seed || exit $$?; done
	@$(PYTHON) scripts/summary.py "$(RUN)_full_0" "$(RUN)_full_1" "$(RUN)_full_2"

libero:
	@scripts/prepare.sh libero
	@scripts/libero.sh "$(LIBERO_RUN)"

# A file stays on one worker: its tests share compiled programs.
test: lint
	@$(PYTHON) -m pytest -n auto --dist loadfile
	@echo "make test: lint and types are clean; no test that ran has failed (skips: see above)"

lint:
	@scripts/prepare.sh dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/basedpyright --pythonpath .venv/bin/python

bench:
	@scripts/prepare.sh dev
	@for name in $(BENCHES); do echo "== $$name"; $(PYTHON) bench/$$name.py || exit $$?; done

torture:
	@scripts/prepare.sh dev
	@$(PYTHON) bench/faults.py $(PARTS)

api:
	@scripts/prepare.sh dev
	@$(PYTHON) scripts/api.py
	@echo "API pages        docs/api/index.html"

constraints:
	@scripts/constraints.sh
