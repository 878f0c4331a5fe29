"""Fine-tuning on a LeRobot folder of any robot, judged on held-out episodes; no simulator.

python train.py --config configs/finetune.py:robot=aloha,preset=gpu80 --workdir RUN --config.init.checkpoint=POLICY --config.demonstrations.lerobot=FOLDER
python train.py --config configs/finetune.py:robot=so101,preset=gpu16 --workdir RUN --config.init.checkpoint=POLICY --config.demonstrations.lerobot=FOLDER --config.demonstrations.cameras='("top","gripper")'
python train.py --config configs/finetune.py:robot=mine.json,preset=gpu8 --workdir RUN --config.init.checkpoint=POLICY --config.demonstrations.mixture='(("A",2.0),("B",1.0))'
python train.py --config configs/finetune.py:robot=lerobot,preset=debug --workdir RUN --config.demonstrations.lerobot=FOLDER

Robots: aloha, aloha_sim, droid, droid_joint_position, libero_panda, lift_panda, so100, so101, so101_degrees, a
.json file of your own with the same entries (pi0_jax/robots/), or lerobot: as the folder says.

Presets: gpu16 (one GPU of 16 GB: the action expert alone), gpu24 (LoRA), gpu80 (one of 80 GB:
everything), gpu8 and tpu8 (eight devices: everything, with a moving average), debug (a tiny policy
from random parameters, a minute on a CPU). --config.sft.optimizer.preset=full, expert_only or lora
chooses what is trained, --config.sft.optimizer.ema_decay=0.99 keeps a moving average.

At every checkpoint (--config.sft.save_every) the policy is judged on episodes that it does not
learn; RUN/policy is the best one. `python -m pi0_jax.data.check FOLDER --robot NAME` looks at the
data alone.
"""  # noqa: E501 (commands are to be copied whole)

from typing import Any

from ml_collections import ConfigDict

from pi0_jax.apps.finetune_settings import fine_tune_config

PRESETS = ("gpu16", "gpu24", "gpu80", "gpu8", "tpu8", "debug")


def get_config(arg: str = "robot=lerobot") -> ConfigDict:
    """Settings for one robot on one kind of machine.

    Args:
        arg: "robot=NAME,preset=NAME"; without the last, gpu80.

    The meaning and the default of every key are documented at its dataclass; start at
    pi0_jax/apps/finetune_settings.py.
    """
    parts = [part.partition("=") for part in arg.split(",") if part]
    given = {key: value for key, _, value in parts}
    robot, preset = given.pop("robot", ""), given.pop("preset", "gpu80")
    if given or not robot or preset not in PRESETS:
        raise ValueError(
            "configs/finetune.py takes robot=NAME[,preset=NAME] with a robot of pi0_jax/robots/, "
            f"FILE.json or lerobot, and a preset of {PRESETS}, got {arg!r}"
        )
    config: Any = fine_tune_config(robot)
    # openpi's own numbers for full fine-tuning.
    config.sft.update({"steps": 30_000, "batch_size": 32, "time_samples": 1, "augment": True})
    config.sft.optimizer.update({"learning_rate": 2.5e-5, "warmup_steps": 1000})
    # Imitation has no use for the condition embedding (`demonstrations.weights` has).
    config.sft.optimizer.rules = (("cond_embed", 0.0),)
    _for_machine(config, preset)
    return config


def _for_machine(config: Any, preset: str) -> None:
    if preset == "debug":
        _make_tiny(config)
        return
    trained = {"gpu16": "expert_only", "gpu24": "lora"}.get(preset, "full")
    config.sft.optimizer.preset = trained
    config.hardware.remat = "none" if trained == "expert_only" else "full"
    if preset in ("gpu16", "gpu24"):
        config.hardware.update({"micro_batches": 8, "frozen_dtype": "bfloat16"})
    if preset in ("gpu8", "tpu8"):
        config.hardware.fsdp = 8
        config.sft.optimizer.ema_decay = 0.99


def _make_tiny(config: Any) -> None:
    """Shows that everything fits together, and nothing else."""
    config.model = "tiny"
    config.sft.update({"steps": 60, "batch_size": 8, "save_every": 30, "augment": False})
    config.sft.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 10})
    config.held_out.update({"share": 0.1, "windows": 16, "num_flow_steps": 4, "shown": 2})
