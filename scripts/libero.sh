#!/bin/sh
# Trains a small policy on one task of LIBERO and evaluates it on the benchmark's own states.
# An interrupted run goes on; a finished one is shown.
# Usage: scripts/libero.sh RUN
set -eu
cd "$(dirname "$0")/.."
run=${1:?usage: scripts/libero.sh RUN}
python=.venv/bin/python

resume() { [ -e "$1/config.json" ] && echo --resume || true; }

# libero_spatial 0, the bowl between plate and ramekin onto the plate: it learns from scratch
# (docs/results.md), and its pictures cost least. Sizes are those of preset=tiny, but for fewer
# iterations of RL and no baselines: half an hour on two cores.
libero() {
    program=$1; shift
    $python "$program" --config configs/libero.py:suite=libero_spatial,preset=tiny \
        --config.eval.guidance='(1.0,)' --config.eval.episodes=50 "$@"
}

# The training evaluates on states placed anew (seeds: docs/glossary.md), the evaluation on 0 to 49.
libero train.py --workdir "$run" --config.rl.iterations=4 --config.baselines='{}' \
    --config.eval.first_seed=2000000 $(resume "$run")
libero eval.py --checkpoint "$run/policy" --workdir "$run/eval" $(resume "$run/eval")
echo
echo "trained policy   $run/policy"
echo "training report  $run/report.html"
echo "evaluation       $run/eval/report.html (50 initial states of the benchmark)"
