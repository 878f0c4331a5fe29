"""ALOHA in simulation: RIPT from a converted checkpoint, or (preset=tiny) everything from scratch.

python eval.py  --config configs/aloha.py:task=transfer_cube --workdir OUT --checkpoint POLICY
python train.py --config configs/aloha.py:task=transfer_cube --workdir RUN --config.init.checkpoint=POLICY
python train.py --config configs/aloha.py:task=insertion,preset=gpu80 --workdir RUN --config.init.checkpoint=POLICY
python train.py --config configs/aloha.py:task=transfer_cube,preset=tiny --workdir RUN

Tasks: transfer_cube, insertion, or both: transfer_cube+insertion. They need `pip install -e
'.[aloha]'` (docs/aloha.md).

Presets: gpu16 (one GPU of 16 GB), gpu80 (one of 80 GB), tiny (scripted demonstrations -> SFT -> RIPT,
no GPU).
"""  # noqa: E501 (commands are to be copied whole)

from typing import Any

from ml_collections import ConfigDict

from pi0_jax.apps.settings import train_config

PRESETS = ("gpu16", "gpu80", "tiny")
TASKS = ("transfer_cube", "insertion")


def get_config(arg: str = "task=transfer_cube") -> ConfigDict:
    """Settings of one task, or of both, on one kind of machine.

    Args:
        arg: "task=NAME,preset=NAME"; without the second, gpu16.

    The meaning and the default of every key are documented at its dataclass; start at
    pi0_jax/apps/settings.py.
    """
    tasks, preset = _parse(arg)
    config: Any = train_config("+".join(f"aloha_{task}" for task in tasks))
    # This demonstrator succeeds in 86 of 100 episodes (docs/aloha.md).
    config.task.demonstrator.offset_sigma = 0.007
    config.pool.timeout_s = 120.0
    config.model = "pi0"
    # openpi's client of the simulator executes ten actions, a fifth of a second.
    config.execute_steps = 10
    config.sft.update({"steps": 0, "batch_size": 32, "time_samples": 1})
    config.sft.optimizer.update({"learning_rate": 2.5e-5, "warmup_steps": 1000})
    config.sft.optimizer.update({"rules": (("cond_embed", 0.0),), "preset": "expert_only"})
    config.rl.update({"iterations": 12, "updates_per_iteration": 80, "batch_size": 32})
    config.rl.update({"time_samples": 2, "buffer_iterations": 1})
    config.rl.groups.update({"group_size": 8, "groups_per_iteration": 24, "max_groups": 72})
    config.rl.optimizer.update({"learning_rate": 2.5e-5, "warmup_steps": 20})
    config.rl.optimizer.update({"rules": (("cond_embed", 20.0),), "preset": "expert_only"})
    config.eval.update({"episodes": 100, "first_seed": 100_000, "guidance": (1.0,)})
    if preset == "gpu16":
        config.hardware.update({"micro_batches": 8, "frozen_dtype": "bfloat16"})
    if preset == "tiny":
        _make_tiny(config)
    return config


def _parse(arg: str) -> tuple[list[str], str]:
    parts = [part.partition("=") for part in arg.split(",") if part]
    given = {key: value for key, _, value in parts}
    tasks, preset = given.pop("task", "").split("+"), given.pop("preset", "gpu16")
    if given or not set(tasks) <= set(TASKS) or preset not in PRESETS:
        raise ValueError(
            f"expected task=NAME[+NAME][,preset=NAME] with tasks of {TASKS} and a preset of "
            f"{PRESETS}, got {arg!r}"
        )
    return tasks, preset


def _make_tiny(config: Any) -> None:
    """A small policy from demonstrations of mixed quality, as in configs/demo.py."""
    config.task.update({"image_height": 96, "pictures": "coarse"})
    # This demonstrator succeeds in 62 (transfer) and 72 (insertion) of 100 episodes.
    config.task.demonstrator.update({"offset_sigma": 0.012, "render_every": 8})
    config.model = "tiny"
    config.execute_steps = 16
    config.demonstrations.update({"episodes": 400, "std_floor": 0.01})
    config.sft.update({"steps": 4000, "batch_size": 64, "time_samples": 2})
    config.sft.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 50, "preset": "full"})
    config.sft.optimizer.final_fraction = 0.05
    config.rl.update({"iterations": 6, "batch_size": 64, "buffer_iterations": 0})
    config.rl.groups.update({"groups_per_iteration": 32, "max_groups": 32})
    # At the demo's 7e-4 RIPT forgets more than it learns (docs/aloha.md).
    config.rl.optimizer.update({"learning_rate": 1e-4, "final_fraction": 0.2, "preset": "full"})
    config.baselines.continued_sft = {"groups": {"groups_per_iteration": 0}}
