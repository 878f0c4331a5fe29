"""One part of `accelerator.py`: measures it and prints lines `what | value`.

python bench/accelerator_part.py parity|sampler|guided|uncast|attention|update|simulator|policy SIZE [...]
"""  # noqa: E501 (a command)

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import SIZES, device, windows

from pi0_jax.convert.compare import reference_stages as stages
from pi0_jax.convert.sources.orbax_source import OrbaxSource
from pi0_jax.convert.sources.source import load_params
from pi0_jax.env.base import Job
from pi0_jax.env.robosuite.gl import choose_renderer
from pi0_jax.env.scripted import SCRIPTED_ROBOT
from pi0_jax.env.suite import make_suite
from pi0_jax.env.workers.pool import SimulatorPool
from pi0_jax.model.config import Pi0Config
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import init_policy, save_policy
from pi0_jax.policy.policy import Policy, branches, sample
from pi0_jax.policy.replicas import Replicas, Weights
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.rl.objectives.cfg import Cfg
from pi0_jax.testing import plain_stats, raw_obs
from pi0_jax.training.fit import create_training
from pi0_jax.training.hardware import Hardware
from pi0_jax.training.optimizer import OptimizerConfig

GOLDENS = Path(__file__).parents[1] / "tests/goldens"
_ROUNDS = 5
_FLOW_STEPS = 10
_TIME_SAMPLES = 2


def say(what: str, value: str) -> None:
    """One row of the table, at once: the process may be ended before the next."""
    print(f"{what} | {value}", flush=True)


def fastest(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call, which compiles, and of the fastest later one."""
    times = []
    for _ in range(1 + _ROUNDS):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return times[0], min(times[1:])


def parity(config: Pi0Config) -> None:
    """Largest differences from openpi's arrays, with products of float32 and as they come."""
    del config
    with np.load(GOLDENS / "tiny_pi0_io.npz") as file:
        golden = dict(file)
    source = OrbaxSource(GOLDENS / "tiny_pi0_released", horizon=golden["actions"].shape[1])
    params = load_params(source, "float32")
    given = stages.inputs(golden)
    for precision in ("highest", "default"):
        with jax.default_matmul_precision(precision):
            found = stages.forward(source.info.config, params, *given)
            drawn = stages.sample(
                source.info.config, params, given[0], golden["noise"], _FLOW_STEPS
            )
        pairs = {"velocity": (found["v_t"], golden["v_t"])}
        pairs["10 flow steps"] = drawn, golden["sample_actions_10"]
        for name, (ours, theirs) in pairs.items():
            off = float(np.abs(np.asarray(ours) - theirs).max())
            say(f"parity of {name}, precision {precision}", f"{off:.2e}")


def sampler(
    config: Pi0Config,
    sizes: tuple[str, ...],
    guidance: float = 1.0,
    attention: str = "einsum",
    *,
    held: bool = True,
) -> None:
    """Milliseconds of a call for each number of rows, and observations/s."""
    model, there = Pi0(config, attention=attention), jax.local_devices()[0]
    params = jax.jit(model.init)(jax.random.key(0))
    if held:
        replicas = Replicas(Weights(params), config.compute_dtype)
        params = replicas.on(there).params
        del replicas
    form = [f"guidance {guidance:g}", attention, "held" if held else "float32"]
    for size in map(int, sizes):
        batch = windows(config, size)
        shape = size, config.action_horizon, config.action_dim
        noise = np.random.default_rng(1).standard_normal(shape, np.float32)
        obs, noise = jax.device_put((batch.obs, noise), there)
        rest = obs, noise, _FLOW_STEPS, guidance

        def run(rest: Any = rest) -> Any:
            """One call."""
            return sample(model, branches(guidance), params, *rest)

        first, best = fastest(run)
        value = f"{1e3 * best:.1f} ms, {size / best:.1f} observations/s (first {first:.1f} s)"
        say(f"sample {size} rows, {', '.join(form)}", value)
    memory()


def update(config: Pi0Config, preset: str, size: str) -> None:
    """Seconds of an update, and samples/s."""
    hardware = Hardware(
        remat="none" if preset == "expert_only" else "full",
        frozen_dtype="" if preset == "full" else "bfloat16",
    )
    loss = Cfg().loss(hardware.network(config), _TIME_SAMPLES, "embedding")
    params = jax.jit(Pi0(config).init)(jax.random.key(0))
    state, step = create_training(
        params, loss, OptimizerConfig(1e-5, 1, preset=preset), 100, hardware
    )
    del params  # the state has a copy of its own
    batch, key, held = windows(config, int(size)), jax.random.key(1), [state]
    del state

    def run() -> Any:
        """One update, which takes over the state."""
        held[0], metrics = step(held[0], batch, key)
        return metrics["loss"]

    first, best = fastest(run)
    value = f"{1e3 * best:.0f} ms, {int(size) / best:.1f} samples/s (first {first:.1f} s)"
    say(f"update {preset}, batch {size}", value)
    memory()


def simulator(config: Pi0Config) -> None:
    """Control steps/s of one Lift simulator and of several, in chunks of 5."""
    del config
    from rollout import ours, random_actions

    (task,) = make_suite("lift", {"image_size": 256}).tasks
    renderer = choose_renderer()
    for workers in (1, 4):
        with SimulatorPool(workers, 120.0, renderer=renderer) as pool:
            episodes = [(seed, random_actions(seed, 50)) for seed in range(workers)]
            pool.map([Job(task, _nothing)] * workers)
            cost, _ = ours(pool, task, episodes, 5)
        say(f"Lift, {workers} simulators, {renderer}", f"{cost.steps_per_s:.0f} control steps/s")


def _nothing(simulator: Any) -> None:
    """A job that only builds the simulator."""


def policy(config: Pi0Config) -> None:
    """Seconds from a policy folder to the first action, and of the next one."""
    spec = PolicySpec(config, SCRIPTED_ROBOT, 5, tokenizer="bytes")
    seen = [raw_obs(SCRIPTED_ROBOT, 256)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        save_policy(path, init_policy(spec, plain_stats(SCRIPTED_ROBOT), 0), {})
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        begin = time.perf_counter()
        acting = Policy.load(path)
        read = time.perf_counter()
    acting.act(seen)
    first = time.perf_counter()
    acting.act(seen)
    then = 1e3 * (time.perf_counter() - first)
    say("policy folder", f"{size / 1e9:.1f} GB, read in {read - begin:.1f} s")
    say("first action", f"{first - read:.1f} s after it, the next in {then:.1f} ms")
    memory()


def memory() -> None:
    """Peak of the device, where it counts."""
    found = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in found:
        say("  peak memory", f"{found['peak_bytes_in_use'] / 1e9:.1f} GB")


def main() -> None:
    """Runs the part that the command line names."""
    part, size, *rest = sys.argv[1:]
    config, more = SIZES[size](), tuple(rest)
    if part == "parity":
        say("device", device())
    match part:
        case "parity" | "simulator" | "policy":
            {"parity": parity, "simulator": simulator, "policy": policy}[part](config)
        case "update":
            update(config, *more)
        case "guided":
            sampler(config, more, guidance=2.0)
        case "uncast":
            sampler(config, more, held=False)
        case "attention":
            sampler(config, more, attention="fused")
        case _:
            sampler(config, more)


if __name__ == "__main__":
    main()
