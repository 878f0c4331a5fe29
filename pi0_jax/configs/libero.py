"""RIPT on LIBERO from a converted checkpoint, or (preset=tiny) everything from scratch on a CPU.

python train.py --config configs/libero.py:suite=libero_spatial --workdir RUN --config.init.checkpoint=POLICY
python eval.py  --config configs/libero.py:suite=libero_spatial --workdir OUT --checkpoint POLICY
python eval.py  --config configs/libero.py:suite=libero_goal_lan+libero_goal_swap --workdir OUT --checkpoint POLICY
python train.py --config configs/libero.py:suite=libero_object,preset=gpu80 --workdir RUN --config.init.checkpoint=POLICY
python train.py --config configs/libero.py:suite=libero_goal,preset=gpu8 --workdir RUN --config.init.checkpoint=POLICY
python train.py --config configs/libero.py:suite=libero_10,preset=tpu8 --workdir RUN --config.init.checkpoint=POLICY
python train.py --config configs/libero.py:suite=libero_object,preset=tiny --workdir RUN
python train.py --config configs/libero.py:suite=libero_goal,preset=gpu80,stage=sft --workdir RUN --config.init.checkpoint=POLICY --config.demonstrations.lerobot=FOLDER

Suites: libero_spatial, libero_object, libero_goal, libero_10, libero_90, those of LIBERO-PRO that
docs/libero.md lists (libero_goal_swap, ...), or several with a plus between them.

--config.task.tasks='(0,3)' picks tasks (with several suites '((0,3),(8,))' those of each),
--config.task.assets=FOLDER (or LIBERO_ASSETS) names the meshes and textures.

After RIPT, --config.eval.guidance='(1.0,1.5)' --config.eval.reference=base adds guidance away from
the policy that RIPT started from (docs/results.md).

Presets: gpu16 (one GPU of 16 GB), gpu80 (one of 80 GB; 32 are enough for ript), gpu8 (eight of 80
GB), tpu8 (a host of eight TPU chips), tiny (scripted demonstrations -> SFT -> RIPT, no GPU).

Stages: ript (rollouts; trains the action expert alone, with --config.rl.optimizer.preset=full
everything), sft (imitates the suite's tasks in a LeRobot folder, as openpi does; RUN/policy is
then a POLICY for ript; --config.init.statistics=demonstrations where the checkpoint is of another
robot).
"""  # noqa: E501 (commands are to be copied whole)

from typing import Any

from ml_collections import ConfigDict

from pi0_jax.apps.settings import train_config
from pi0_jax.env.robosuite.libero_suites import SUITES, check_complete

PRESETS = ("gpu16", "gpu80", "gpu8", "tpu8", "tiny")
STAGES = ("ript", "sft")
# Tasks of preset=tiny, if none are given; the scripted demonstrator can do them. Suites that change
# these have them under the same number, but for the last.
TINY_TASKS = {
    "libero_spatial": (0,),
    "libero_object": (0,),
    "libero_goal": (8,),
    "libero_goal_with_milk": (3,),
}


def get_config(arg: str = "suite=libero_spatial") -> ConfigDict:
    """Settings of one suite on one kind of machine.

    Args:
        arg: "suite=NAME,preset=NAME,stage=NAME"; without the last two, gpu16 and ript.

    The meaning and the default of every key are documented at its dataclass; start at
    pi0_jax/apps/settings.py.
    """
    suite, preset, stage = _parse(arg)
    config: Any = train_config(suite)
    # A chunk takes well under a second.
    config.pool.timeout_s = 120.0
    config.task.demonstrator.offset_sigma = 0.0
    config.hardware.update(_hardware(preset, stage))
    config.model = "pi0"
    config.sft.update({"steps": 0, "batch_size": 32, "time_samples": 1})
    config.sft.optimizer.update({"learning_rate": 2.5e-5, "warmup_steps": 1000})
    config.sft.optimizer.update({"rules": (("cond_embed", 0.0),)})
    config.sft.optimizer.preset = _trained(preset, stage)
    _improve(config.rl, preset)
    # The benchmark's protocol: its own initial states of each task, nearly always 50.
    own = min(SUITES[one].own_states for one in suite.split("+"))
    # A published checkpoint has no branches and no base to lead away from: scale 1 is all it has.
    config.eval.update({"episodes": own, "first_seed": 0, "guidance": (1.0,)})
    if preset == "tiny":
        _make_tiny(config)
    if stage == "sft":
        _imitate_only(config, preset)
    return config


def _parse(arg: str) -> tuple[str, str, str]:
    parts = [part.partition("=") for part in arg.split(",") if part]
    given = {key: value for key, _, value in parts}
    suite, preset = given.pop("suite", ""), given.pop("preset", "gpu16")
    stage = given.pop("stage", "ript")
    for name in suite.split("+"):
        check_complete(name)
    known = all(name in SUITES for name in suite.split("+"))
    if given or not known or preset not in PRESETS or stage not in STAGES:
        raise ValueError(
            "expected suite=NAME[+NAME][,preset=NAME][,stage=NAME] with suites of "
            f"{tuple(name for name in SUITES if not SUITES[name].pro)} or of LIBERO-PRO "
            f"(docs/libero.md), a preset of {PRESETS} and a stage of {STAGES}, got {arg!r}"
        )
    without = [name for name in suite.split("+") if not tiny_tasks(name)]
    if preset == "tiny" and without:
        able = tuple(TINY_TASKS)
        raise ValueError(f"preset=tiny has no task of {without[0]!r}: choose one of {able}")
    return suite, preset, stage


def tiny_tasks(suite: str) -> tuple[int, ...]:
    """The tasks of preset=tiny in a suite, or in one of LIBERO-PRO that changes it; () for none."""
    return TINY_TASKS.get(suite) or TINY_TASKS.get(_unchanged(suite), ())


def _unchanged(suite: str) -> str:
    """The suite that one of LIBERO-PRO changes; any other name is returned."""
    return (suite in SUITES and SUITES[suite].changes) or suite


def _trained(preset: str, stage: str) -> str:
    """RL trains the action expert and freezes the VLM; imitation trains all that fits in memory."""
    if preset == "tiny":
        return "full"
    return "full" if stage == "sft" and preset != "gpu16" else "expert_only"


def _hardware(preset: str, stage: str) -> dict[str, Any]:
    whole = _trained(preset, stage) == "full" and preset != "tiny"
    frozen = {} if whole else {"frozen_dtype": "bfloat16"}
    of_preset: dict[str, dict[str, Any]] = {
        "gpu16": {"micro_batches": 8, **frozen},
        "gpu80": {},
        # With a frozen VLM a copy fits each GPU, and nothing but the expert's gradient moves.
        "gpu8": {"fsdp": 8} if whole else {"data": 8, **frozen},
        # A chip of 16 GB has room for its part alone.
        "tpu8": {"fsdp": 8, **frozen},
        "tiny": {},
    }
    return {"remat": "full" if whole else "none", **of_preset[preset]}


def _improve(rl: Any, preset: str) -> None:
    # 192 accepted episodes are 2,000 to 4,000 windows: 80 updates see each about once.
    rl.update({"iterations": 12, "updates_per_iteration": 80, "time_samples": 2})
    rl.batch_size = 128 if preset in ("gpu8", "tpu8") else 32
    # Images of 24 groups take some gigabytes, so the buffer holds one iteration only.
    rl.buffer_iterations = 1
    rl.groups.update({"group_size": 8, "groups_per_iteration": 24, "max_groups": 72})
    rl.groups.early_stop = 0.8
    rl.optimizer.update({"learning_rate": 2.5e-5, "warmup_steps": 20})
    rl.optimizer.update({"rules": (("cond_embed", 20.0),), "preset": _trained(preset, "ript")})


def _make_tiny(config: Any) -> None:
    """A small policy from demonstrations of mixed quality, as in configs/demo.py."""
    suites = config.suite.split("+")
    each = tuple(tiny_tasks(suite) for suite in suites)
    tasks = each if len(suites) > 1 else each[0]
    config.task.update({"tasks": tasks, "image_size": 64, "pictures": "coarse"})
    # This demonstrator picks the soup in half of its episodes, and bowls in two thirds.
    sigma = 0.018 if any(_unchanged(suite) == "libero_object" for suite in suites) else 0.03
    config.task.demonstrator.offset_sigma = sigma
    config.model = "tiny"
    config.execute_steps = 16
    # From number 50 on, objects are placed at random. The benchmark's own states, 0 to 49, are for
    # the evaluation.
    config.demonstrations.update({"episodes": 400, "first_seed": 1_000})
    config.sft.update({"steps": 4000, "batch_size": 64, "time_samples": 2})
    config.sft.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 50})
    config.sft.optimizer.final_fraction = 0.05
    config.rl.update({"iterations": 6, "batch_size": 64, "buffer_iterations": 0})
    config.rl.groups.update({"groups_per_iteration": 32, "max_groups": 32, "early_stop": 1.0})
    config.rl.optimizer.update({"learning_rate": 7e-4, "final_fraction": 0.2})
    config.baselines.continued_sft = {"groups": {"groups_per_iteration": 0}}
    config.baselines.filtered_bc = {
        "groups": {"dynamic_sampling": False},
        "advantage": {"success_weight": True},
        "objective": "filtered_bc",
    }
    config.eval.update({"episodes": 100, "guidance": (1.0, 1.5, 2.0), "reference": "base"})


def _imitate_only(config: Any, preset: str) -> None:
    """Supervised fine-tuning and nothing after it; openpi's `pi0_libero` takes 30,000 steps."""
    config.rl.iterations = 0
    config.demonstrations.std_floor = 0.0
    config.baselines = ConfigDict()
    config.eval.guidance = (1.0,)
    if preset != "tiny":
        config.sft.update({"steps": 30_000, "batch_size": config.rl.batch_size, "augment": True})
