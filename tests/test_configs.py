"""Every config loads with every argument it documents, and builds every shape, allocating none."""

import atexit
import dataclasses
import importlib
import importlib.util
import re
import runpy
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import get_type_hints

import chex
import jax
import jax.numpy as jnp
import pytest
from skips import HAS_ALOHA, HAS_LIBERO, HAS_PRO, NO_ALOHA, NO_LIBERO, NO_PRO

import pi0_jax.apps
from pi0_jax.apps.finetune_settings import FineTuneSettings, fine_tune_settings
from pi0_jax.apps.settings import TrainSettings, train_settings
from pi0_jax.apps.start import fresh_spec
from pi0_jax.data.branches import has_two_prompts
from pi0_jax.env.robosuite.libero_suites import SUITES
from pi0_jax.env.suite import make_suite, task_options
from pi0_jax.model.config import preset
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.policy import branches, sample
from pi0_jax.rl.objectives.base import Objective
from pi0_jax.training.fit import make_init_and_update
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.memory import abstract_batch
from pi0_jax.training.optimizer import OptimizerConfig
from pi0_jax.training.step import SampledLoss
from pi0_jax.training.supervised import flow_matching_loss

FOLDER = Path(pi0_jax.apps.__file__).parents[1] / "configs"


def load(path: Path):
    """The module of a packaged config."""
    return importlib.import_module(f"pi0_jax.configs.{path.stem}")


def documented(path: Path) -> list[str]:
    """Arguments in the launch commands of a config's docstring, "" for none."""
    commands = re.findall(rf"--config configs/{path.name}(?::(\S+))?", load(path).__doc__)
    return sorted(set(commands))


CASES = [
    pytest.param(path, argument, id=f"{path.stem}:{argument}")
    for path in sorted(FOLDER.glob("*.py"))
    if path.name != "__init__.py"
    for argument in documented(path)
]
FINE_TUNING = "finetune"
WITH_SUITE = [case for case in CASES if case.values[0].stem != FINE_TUNING]


def test_there_are_configs_and_each_says_how_to_launch_it():
    assert {case.values[0].name for case in CASES} == {
        path.name for path in FOLDER.glob("*.py") if path.name != "__init__.py"
    }
    assert len(CASES) >= 2


@pytest.mark.parametrize("path", sorted({case.values[0] for case in CASES}), ids=lambda p: p.stem)
def test_an_unknown_argument_is_refused(path):
    with pytest.raises(ValueError, match="nonsense"):
        load(path).get_config("nonsense")


@cache
def empty_assets() -> str:
    """A folder that passes for LIBERO's assets while nothing is built."""
    folder = Path(tempfile.mkdtemp(prefix="pi0_jax_tests_"))
    atexit.register(shutil.rmtree, folder)
    for name in ("scenes", "textures", "custom_objects"):
        (folder / name).mkdir()
    return str(folder)


def suite_of(config):
    """The suite that a config describes."""
    if config.suite.startswith("aloha") and not HAS_ALOHA:
        pytest.skip(NO_ALOHA)
    if config.suite.startswith("libero"):
        if not HAS_LIBERO:
            pytest.skip(NO_LIBERO)
        if not HAS_PRO and any(SUITES[name].pro for name in config.suite.split("+")):
            pytest.skip(NO_PRO)
        config.task.assets = empty_assets()
    return make_suite(config.suite, config.task.to_dict())


@dataclasses.dataclass(frozen=True)
class Learning:
    """A loss by what it is built of; plain flow matching where there is no objective."""

    objective: Objective | None
    time_samples: int
    branch_mode: str

    def build(self, model: Pi0) -> SampledLoss:
        if self.objective is None:
            return flow_matching_loss(model, self.time_samples)
        return self.objective.loss(model, self.time_samples, self.branch_mode)


@cache
def check_update(
    model: Pi0, cameras: int, size: int, loss: Learning, optimizer: OptimizerConfig, steps: int
) -> None:
    """One update, shapes only: parameters keep theirs, and every rule matches one.

    Methods and configs that differ in nothing that an update reads are checked once.
    """
    # A loss that reads chains gets those of ten flow steps and seven actions.
    chain = (10, 7) if loss.objective and loss.objective.rollout_noise else None
    batch = abstract_batch(model.config, cameras, size, chain=chain)
    if has_two_prompts(loss.branch_mode):
        obs = batch.obs
        batch = batch.replace(uncond_prompt=obs.prompt, uncond_prompt_mask=obs.prompt_mask)

    def update(rng, batch):
        params = model.init(rng)
        starting, step = make_init_and_update(
            params, loss.build(model), optimizer, steps, Hardware()
        )
        return params, step(starting(params), batch, rng)

    params, (state, metrics) = jax.eval_shape(update, jax.random.key(0), batch)
    trained = {name: leaf for name, leaf in state.params.items() if name != "lora"}
    chex.assert_trees_all_equal_shapes_and_dtypes(trained, params)
    assert ("lora" in state.params) == (optimizer.preset == "lora")
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("argument", documented(FOLDER / f"{FINE_TUNING}.py"))
def test_a_fine_tuning_builds(argument):
    config = load(FOLDER / f"{FINE_TUNING}.py").get_config(argument)
    config.lock()
    assert keys(config.to_dict()) == fields(FineTuneSettings)
    config.demonstrations.lerobot = "data"
    settings = fine_tune_settings(config)
    model, sft = Pi0(preset(settings.model)), settings.sft
    settings.hardware.check_batch(sft.batch_size)
    loss = Learning(None, sft.time_samples, "embedding")
    check_update(model, 2, sft.batch_size, loss, sft.optimizer, sft.steps)


@pytest.mark.parametrize(("path", "argument"), WITH_SUITE)
def test_a_config_builds(path, argument):
    config = load(path).get_config(*filter(None, [argument]))
    config.lock()
    suite, settings = suite_of(config), train_settings(config)
    spec = fresh_spec(settings, suite)
    model, cameras = Pi0(spec.model), len(suite.robot.cameras)
    assert 1 <= spec.execute_steps <= model.config.action_horizon
    sft = settings.sft
    settings.hardware.check_batch(sft.batch_size)
    settings.hardware.check_batch(settings.rl.batch_size)
    loss = Learning(None, sft.time_samples, "embedding")
    check_update(model, cameras, sft.batch_size, loss, sft.optimizer, sft.steps)

    for ript in settings.methods(len(suite.tasks)).values():
        loss = Learning(ript.chosen, ript.time_samples, ript.branch_mode)
        steps = ript.iterations * ript.updates_per_iteration
        check_update(model, cameras, ript.batch_size, loss, ript.optimizer, steps)

    evaluation = settings.eval
    c = model.config
    noise = jax.ShapeDtypeStruct((1, c.action_horizon, c.action_dim), jnp.float32)
    params = model.shapes()
    obs = abstract_batch(c, cameras, 1).obs
    for scale in evaluation.guidance:
        chunk = jax.eval_shape(
            lambda p, o, x, scale=scale: sample(
                model, branches(scale), p, o, x, evaluation.num_flow_steps, scale
            ),
            params, obs, noise,
        )  # fmt: skip
        assert chunk.shape == noise.shape


def fields(kind: type, prefix: str = "") -> set[str]:
    """Every field of a settings dataclass and of those in it, but what is free to have any."""
    hints, names = get_type_hints(kind), set()
    for entry in dataclasses.fields(kind):
        name, inner = f"{prefix}{entry.name}", hints[entry.name]
        if dataclasses.is_dataclass(inner):
            names |= fields(inner, f"{name}.")
        elif entry.name not in ("task", "baselines"):
            names.add(name)
    return names


def keys(values: dict, prefix: str = "") -> set[str]:
    """Every key of nested plain values."""
    found = set()
    for name, value in values.items():
        inner = isinstance(value, dict)
        found |= keys(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}"}
    return found


@pytest.mark.parametrize(("path", "argument"), WITH_SUITE)
def test_the_keys_of_a_config_are_the_fields(path, argument):
    values = load(path).get_config(*filter(None, [argument])).to_dict()
    task, _ = values.pop("task"), values.pop("baselines")
    assert keys(values) == fields(TrainSettings)
    assert keys(task) == keys(task_options(values["suite"]))


def test_small_tasks_of_perturbed_suites():
    """A small policy may be judged on perturbations of its task, which have the same number."""
    of = load(Path("libero.py")).get_config
    assert of("suite=libero_goal_swap,preset=tiny").task.tasks == (8,)
    assert of("suite=libero_spatial_with_mug,preset=tiny").suite == "libero_spatial_with_mug"
    object_swap = of("suite=libero_object_swap,preset=tiny").task.demonstrator
    assert object_swap == of("suite=libero_object,preset=tiny").task.demonstrator
    # The last has tasks of its own.
    for none in ("libero_10_swap", "libero_goal+libero_10", "libero_object_two_normal_episodes"):
        with pytest.raises(ValueError, match="preset=tiny has no task of"):
            of(f"suite={none},preset=tiny")


def test_small_tasks_of_several_suites():
    both = load(Path("libero.py")).get_config("suite=libero_goal+libero_object,preset=tiny").task
    assert both.tasks == ((8,), (0,))
    assert both.demonstrator.offset_sigma == 0.018  # soup asks for more care than bowls


@pytest.mark.parametrize("name", ["aloha", "demo", "libero"])
def test_the_shorthand_in_configs_is_the_packaged_config(name):
    short = runpy.run_path(str(Path(__file__).parents[1] / "configs" / f"{name}.py"))
    assert short["get_config"] is load(Path(f"{name}.py")).get_config


@pytest.mark.parametrize(("path", "argument"), WITH_SUITE)
def test_initial_states_never_meet(path, argument):
    """Demonstrations, training and evaluation start from seeds of their own."""
    config = load(path).get_config(*filter(None, [argument]))
    tasks = len(suite_of(config).tasks)
    demos, rl, evaluation = config.demonstrations, config.rl, config.eval
    sampling = rl.groups
    drawn = {
        "demonstrations": range(demos.first_seed, demos.first_seed + demos.episodes),
        "rl": range(sampling.first_seed, sampling.first_seed + rl.iterations * sampling.max_groups),
        "eval": range(evaluation.first_seed, evaluation.first_seed + evaluation.episodes * tasks),
    }
    names = list(drawn)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not set(drawn[a]) & set(drawn[b]), (a, b)
