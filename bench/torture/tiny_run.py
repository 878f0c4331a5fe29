"""The smallest run that has every stage: demonstrations, SFT, RIPT, evaluation, videos, report."""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The first and the last layer of the actions and the embedding of the branches: few programs.
_TRAINED = r"(('(action_in_proj|action_out_proj|cond_embed)(/.*)?',1.0),('.*',0.0))"
TRAIN = (
    "--config=configs/demo.py",
    "--config.suite=scripted",
    "--config.task={'max_steps':8,'image_size':16,'tolerance':0.6,'speed':0.3}",
    "--config.pool.workers=1",
    "--config.execute_steps=8",
    "--config.demonstrations.episodes=3",
    "--config.sft.steps=4",
    "--config.sft.save_every=2",
    "--config.sft.log_every=1",
    "--config.sft.batch_size=2",
    f"--config.sft.optimizer.rules={_TRAINED}",
    f"--config.rl.optimizer.rules={_TRAINED}",
    # The schedule of sft: the base and continued_sft are one program.
    "--config.rl.optimizer.learning_rate=2e-3",
    "--config.rl.optimizer.warmup_steps=50",
    "--config.rl.optimizer.final_fraction=0.05",
    "--config.rl.iterations=3",
    "--config.rl.groups.group_size=2",
    "--config.rl.groups.groups_per_iteration=1",
    # An iteration may find no group that teaches: then its checkpoint has the step of the last one.
    "--config.rl.groups.max_groups=2",
    "--config.rl.updates_per_iteration=1",
    "--config.rl.batch_size=2",
    "--config.eval.episodes=2",
    "--config.eval.num_flow_steps=2",
    "--config.eval.videos=1",
    "--config.eval.guidance=(1.0,2.0)",
    "--config.verbosity=1",
)
EVALUATE = TRAIN


def environment(cache: Path) -> dict[str, str]:
    """Environment of a command: this checkout, one CPU device, compiled programs from `cache`."""
    values = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    values |= {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    values |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**os.environ, **values}


def command(program: str, *arguments: str) -> list[str]:
    """A command line of this checkout, which is run in `ROOT`."""
    return [sys.executable, program, *arguments]


def config_of(run: Path) -> dict[str, object]:
    """The config that a run stores."""
    return json.loads((run / "config.json").read_text())["config"]
