"""A tiny pi0 learns robosuite's Lift from scratch, then improves itself by RIPT, on a CPU.

python train.py --config configs/demo.py --workdir runs/demo
python train.py --config configs/demo.py:full --workdir runs/demo_full   # adds filtered BC
python train.py --config configs/demo.py:ablations --workdir runs/ablations   # what of it matters
python train.py --config configs/demo.py:objectives --workdir runs/objectives   # docs/objectives.md
python train.py --config configs/demo.py:all_objectives --workdir RUN   # with nft, flow_pg, LoRA

The demonstrations have mixed quality on purpose: each has its own constant grasp offset, and
failures are kept. With clean ones, more imitation is as good as RL.
"""

from typing import Any

from ml_collections import ConfigDict

from pi0_jax.apps.settings import train_config

ARGUMENTS = ("", "full", "ablations", "objectives", "all_objectives")
# Weights and groups of filtered behaviour cloning: all groups count, successes weigh 1.
EVERY_SUCCESS = {"groups": {"dynamic_sampling": False}, "advantage": {"success_weight": True}}
SFT_RULES = (("cond_embed", 0.0),)


def get_config(arg: str = "") -> ConfigDict:
    """Settings of the demo; `full` adds filtered BC, `ablations` and `objectives` more methods.

    The meaning and the default of every key are documented at its dataclass; start at
    pi0_jax/apps/settings.py.
    """
    if arg not in ARGUMENTS:
        raise ValueError(f"configs/demo.py takes one of {ARGUMENTS}, got {arg!r}")
    config: Any = train_config("lift")
    # This demonstrator succeeds in about 46 % of the episodes.
    config.task.demonstrator.offset_sigma = 0.022
    config.model = "tiny"
    config.execute_steps = 16
    config.demonstrations.episodes = 600
    config.sft.update({"steps": 4000, "batch_size": 64, "time_samples": 2})
    config.sft.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 50, "rules": SFT_RULES})
    config.sft.optimizer.final_fraction = 0.05
    _improve(config.rl)
    # A baseline is the same loop with these keys of `rl` replaced; continued_sft has no rollouts.
    config.baselines.continued_sft = {"groups": {"groups_per_iteration": 0}}
    if arg:
        config.baselines.filtered_bc = {**EVERY_SUCCESS, "objective": "filtered_bc"}
    config.eval.update({"episodes": 200, "first_seed": 100_000})
    config.eval.guidance = (1.0, 1.5, 2.0)
    config.eval.reference = "unconditional+base"
    if arg == "ablations":
        _ablate(config)
    if arg in ("objectives", "all_objectives"):
        _compare_objectives(config)
    if arg == "all_objectives":
        _compare_more(config)
    return config


def _improve(rl: Any) -> None:
    rl.update({"iterations": 12, "updates_per_iteration": 80, "batch_size": 64, "time_samples": 2})
    rl.groups.update({"group_size": 8, "groups_per_iteration": 48, "max_groups": 48})
    rl.optimizer.update({"learning_rate": 7e-4, "warmup_steps": 20, "final_fraction": 0.2})
    rl.optimizer.rules = (("cond_embed", 20.0),)


def _shorten(config: Any) -> None:
    """1,536 rollouts and 480 updates per method, and 400 states to judge it on."""
    config.rl.iterations = 6
    config.rl.groups.groups_per_iteration = config.rl.groups.max_groups = 32
    config.eval.episodes, config.eval.videos = 400, 0


def _compare_objectives(config: Any) -> None:
    """`cfg`, as specified, is the method "ript"; the others learn from every success alike."""
    _shorten(config)
    config.rl.objective = "cfg"
    config.eval.guidance = (1.0, 1.5, 2.0, 3.0, 10.0)
    del config.baselines.continued_sft
    config.baselines.cfg_detached = {**EVERY_SUCCESS, "objective": "cfg_detached"}


def _compare_more(config: Any) -> None:
    """Objectives that learn from failures, and filtered BC of adapters alone."""
    newest = {"buffer_iterations": 1}
    config.baselines.nft = {**EVERY_SUCCESS, **newest, "objective": "nft"}
    # Rate and noise that did best in a toy with the structure of this task (docs/design.md).
    config.baselines.flow_pg = {
        **newest,
        "objective": "flow_pg",
        "advantage": {"negatives": "signed", "clipping": "none", "rescale": "none"},
        "optimizer": {"learning_rate": 2e-4},
        "time_samples": 4,
    }
    config.baselines.filtered_bc_lora = {
        **EVERY_SUCCESS,
        "objective": "filtered_bc",
        "optimizer": {"preset": "lora"},
    }


def _ablate(config: Any) -> None:
    """Adds methods that differ from RIPT with `cfg` in one setting each, in shorter runs.

    More episodes per evaluation make small differences visible. All methods have the same number
    of rollouts and of optimizer steps (bench/ablations.py).
    """
    _shorten(config)
    config.rl.objective = "cfg"
    config.eval.guidance, config.eval.reference = (1.0, 3.0), "unconditional"
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
        config.baselines[name] = changes
