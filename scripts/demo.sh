#!/bin/sh
# Trains and evaluates the demo in a run folder. An interrupted run goes on; a finished one is shown.
# Usage: scripts/demo.sh RUN [full] [SEED]
set -eu
cd "$(dirname "$0")/.."
run=${1:?usage: scripts/demo.sh RUN [full] [SEED]}
config=configs/demo.py${2:+:$2}
seed=${3:-0}
python=.venv/bin/python

resume() { [ -e "$1/config.json" ] && echo --resume || true; }

$python train.py --config "$config" --config.seed="$seed" --workdir "$run" $(resume "$run")
# Evaluates the policy folder on a second set of initial states (seeds: docs/glossary.md).
$python eval.py --config "$config" --checkpoint "$run/policy" --workdir "$run/eval" \
    --config.eval.first_seed=2000000 $(resume "$run/eval")
echo
echo "trained policy   $run/policy"
echo "training report  $run/report.html"
echo "evaluation       $run/eval/report.html"
