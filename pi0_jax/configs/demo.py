"""A tiny pi0 learns robosuite's Lift from scratch, then improves itself by RIPT, on a CPU.

python train.py --config configs/demo.py --workdir runs/demo
python train.py --config configs/demo.py:full --workdir runs/demo_full   # adds filtered BC
python train.py --config configs/demo.py:ablations --workdir runs/ablations   # what of it matters

The demonstrations are of mixed quality on purpose: every one has a constant grasp offset of its
own, and failures are kept. With clean ones, more imitation does as well as RL.
"""

from typing import Any

from ml_collections import ConfigDict

SFT_RULES = (("cond_embed", 0.0),)


def get_config(arg: str = "") -> ConfigDict:
    """Settings of the demo; `full` adds filtered BC, `ablations` many methods more."""
    if arg not in ("", "full", "ablations"):
        raise ValueError(f"configs/demo.py takes no argument, 'full' or 'ablations', got {arg!r}")
    config: Any = ConfigDict()
    config.seed = 0
    # Observations per call of the policy, in rollouts and evaluation.
    config.rows = 8
    config.wandb_project = ""
    config.suite = "lift"
    # workers 0: one for every core.
    config.pool = ConfigDict({"workers": 0, "timeout_s": 60.0})
    config.task = ConfigDict({"placement": 0.06, "image_size": 64, "max_steps": 48})
    # This demonstrator succeeds in about 46 % of the episodes.
    config.task.demonstrator = ConfigDict({"offset_sigma": 0.022})
    config.init = ConfigDict({"checkpoint": "", "statistics": "checkpoint"})
    # What is laid out differently gives the same results (pi0_jax/training/hardware.py).
    config.hardware = ConfigDict(
        {
            "data": 1,
            "fsdp": 1,
            "micro_batches": 1,
            "remat": "none",
            "attention": "einsum",
            "frozen_dtype": "",
            "memory_gb": 0.0,
        }
    )
    # A folder in which compiled programs outlive the process; "" compiles anew.
    config.compilation_cache = ""
    config.model = "tiny"
    config.execute_steps = 16
    config.demonstrations = ConfigDict({"episodes": 600, "first_seed": 0, "std_floor": 0.1})
    config.demonstrations.lerobot = ""
    config.sft = ConfigDict({"steps": 4000, "batch_size": 64, "time_samples": 2})
    config.sft.save_every = 1000
    config.sft.augment = False
    config.sft.optimizer = _adamw(learning_rate=2e-3, warmup_steps=50, final_fraction=0.05)
    config.sft.optimizer.rules = SFT_RULES
    config.rl = _ript()
    # A baseline is the same loop with these keys of `rl` replaced; continued_sft has no rollouts.
    config.baselines = ConfigDict({"continued_sft": {"groups": {"groups_per_iteration": 0}}})
    if arg:
        config.baselines.filtered_bc = ConfigDict(
            {
                "groups": {"dynamic_sampling": False},
                "advantage": {"success_weight": True},
                "objective": "filtered_bc",
            }
        )
    config.eval = ConfigDict({"episodes": 200, "first_seed": 100_000, "num_flow_steps": 10})
    config.eval.videos = 2
    # 0: as many actions of each chunk as the policy folder says.
    config.eval.execute_steps = 0
    config.eval.guidance = (0.0, 1.0, 1.5, 2.0, 3.0)
    if arg == "ablations":
        _ablate(config)
    return config


def _ablate(config: Any) -> None:
    """Arms that differ from RIPT in one thing each; shorter runs, more episodes to tell them apart.

    Every method tries as many rollouts and takes as many optimizer steps (bench/ablations.py).
    """
    config.rl.iterations = 6
    config.rl.groups.groups_per_iteration = config.rl.groups.max_groups = 32
    config.eval.episodes, config.eval.videos = 400, 0
    config.eval.guidance = (1.0, 3.0)
    methods = {
        "alpha_0": {"cfg": {"alpha": 0.0}},
        "alpha_1": {"cfg": {"alpha": 1.0}},
        "weights_raw": {"advantage": {"rescale": "none"}},
        "weights_hard": {"advantage": {"hard": True}},
        "weights_standard": {"advantage": {"normalization": "standard"}},
        "weights_signed": {
            "advantage": {"negatives": "signed", "clipping": "none", "rescale": "none"}
        },
        "single_pass_10": {"objective": "cfg_dropout", "cfg_dropout": {"probability": 0.1}},
        "single_pass_30": {"objective": "cfg_dropout", "cfg_dropout": {"probability": 0.3}},
        "text_prompt": {"branch_mode": "text_indicator"},
        "own_noise": {"cfg": {"shared_noise": False}},
        "embedding_rate_1": {"optimizer": {"rules": (("cond_embed", 1.0),)}},
        "embedding_rate_30": {"optimizer": {"rules": (("cond_embed", 30.0),)}},
        "all_groups": {"groups": {"dynamic_sampling": False}},
        "group_4": {"groups": {"group_size": 4, "groups_per_iteration": 64, "max_groups": 64}},
        "group_16": {"groups": {"group_size": 16, "groups_per_iteration": 16, "max_groups": 16}},
    }
    for name, changes in methods.items():
        config.baselines[name] = ConfigDict(changes)


def _ript() -> ConfigDict:
    """What every key means stands at the dataclass of its section, from pi0_jax/rl/config.py on."""
    rl = ConfigDict({"iterations": 12, "updates_per_iteration": 80, "batch_size": 64})
    rl.branch_mode = "embedding"
    rl.guidance = 1.0
    rl.rollout_params = "last"
    rl.buffer_iterations = 0
    rl.demo_fraction = 0.0
    rl.demo_weight = 0.0
    rl.groups = ConfigDict(
        {
            "group_size": 8,
            "groups_per_iteration": 48,
            "max_groups": 48,
            "early_stop": 1.0,
            "states": "fresh",
            "first_seed": 200_000,
            "num_states": 0,
            "dynamic_sampling": True,
            "skip_threshold": 3,
            "mix_states": False,
        }
    )
    rl.advantage = ConfigDict(
        {
            "success_weight": False,
            "all_rollouts_baseline": False,
            "normalization": "none",
            "clipping": "asymmetric",
            "a_max": 5.0,
            "negatives": "clamp",
            "hard": False,
            "rescale": "positive_mean",
        }
    )
    rl.windows = ConfigDict({"stride": "executed", "skip_short": False})
    rl.time_samples = 2
    rl.objective = "cfg"
    rl.cfg = ConfigDict({"alpha": 0.1, "shared_noise": True})
    rl.cfg_detached = ConfigDict({"alpha": 1.0})
    rl.cfg_dropout = ConfigDict({"probability": 0.1})
    rl.optimizer = _adamw(learning_rate=7e-4, warmup_steps=20, final_fraction=0.2)
    rl.optimizer.rules = (("cond_embed", 20.0),)
    return rl


def _adamw(learning_rate: float, warmup_steps: int, final_fraction: float) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "warmup_steps": warmup_steps,
            "final_fraction": final_fraction,
            "b1": 0.9,
            "b2": 0.95,
            "weight_decay": 1e-10,
            "clip_norm": 1.0,
            "preset": "full",
            "ema_decay": 0.0,
        }
    )
