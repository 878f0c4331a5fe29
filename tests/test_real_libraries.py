"""Exports in the newest lerobot: strictly loaded, they act as we do from the raw observation.

    PI0_JAX_REAL_LIBRARIES=FOLDER python -m pytest tests/test_real_libraries.py

installs lerobot (5 GB) into FOLDER once. Weights and sizes are those of the reference data, which
are patched into the library; prompts are plain and tokenised as bytes, images have the network's
size, for lerobot resizes otherwise (without antialiasing).
"""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from checkpoints import GOLDENS
from real_libraries import lerobot_python
from transformers import PI0ForConditionalGeneration

from pi0_jax.convert.commands import flax_to_torch, jax_to_flax, torch_to_flax
from pi0_jax.convert.commands.command import status
from pi0_jax.data.action_space import ActionSpace
from pi0_jax.episode import RawObs
from pi0_jax.model.config import Pi0Config
from pi0_jax.policy.folder import PolicyFolder, load_policy, save_policy
from pi0_jax.policy.policy import Policy
from pi0_jax.robot import numbered

PROMPT, SIZE, TOLERANCE = "pick up the black bowl", 224, 2e-4
DELTA = ActionSpace((True,) * 6 + (False,))
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "pi0": ("tiny_pi0", {}),
    "pi0 by quantiles": ("tiny_pi0", {"quantile": True}),
    "pi0 with relative actions": ("tiny_pi0", {"action_space": DELTA}),
    "pi05": ("tiny_pi05", {"state_in_prompt": True}),
    "pi05 by z-scores with relative actions": (
        "tiny_pi05",
        {"state_in_prompt": True, "quantile": False, "action_space": DELTA},
    ),
}


def run(main: Any, *arguments: object) -> None:
    assert status(main, [str(argument) for argument in arguments]) == 0


def policy_of(name: str, folder: Path) -> PolicyFolder:
    """A policy with the reference weights, without limits of its robot, which lerobot lacks."""
    golden, settings = POLICIES[name]
    run(jax_to_flax.main, GOLDENS / golden, folder / "official")
    read = load_policy(folder / "official")
    model = dataclasses.replace(read.spec.model, prompt_length=200)
    robot = dataclasses.replace(read.spec.robot, actions=numbered("action", 7))
    spec = dataclasses.replace(read.spec, model=model, robot=robot, tokenizer="bytes", **settings)
    save_policy(folder / "policy", dataclasses.replace(read, spec=spec), {})
    return load_policy(folder / "policy")


def sizes(model: Pi0Config) -> dict[str, Any]:
    """The sizes under lerobot's names."""
    vision = model.vision
    return {
        "shared": {
            "depth": model.depth,
            "num_heads": model.num_heads,
            "num_kv_heads": model.num_kv_heads,
            "head_dim": model.head_dim,
        },
        "vlm": dataclasses.asdict(model.vlm),
        "expert": dataclasses.asdict(model.action),
        "vision": {
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_dim,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.num_heads,
            "projection_dim": model.vlm.width,
        },
        "vocab": model.vocab_size,
    }


def observation(policy: PolicyFolder, size: int = SIZE) -> tuple[RawObs, np.ndarray]:
    """A raw observation with images of that size, and noise float32[1, H, d]."""
    rng, spec = np.random.default_rng(0), policy.spec
    images = rng.integers(0, 256, (len(spec.robot.cameras), size, size, 3), np.uint8)
    state = rng.normal(policy.stats.state.mean, policy.stats.state.std).astype(np.float32)
    noise = rng.normal(size=(1, spec.model.action_horizon, spec.model.action_dim))
    return RawObs(images, state, PROMPT), noise.astype(np.float32)


def ours(policy: PolicyFolder, size: int = SIZE) -> np.ndarray:
    raw, noise = observation(policy, size)
    return Policy.from_folder(policy).act([raw], noise)


@pytest.fixture(scope="module")
def python() -> Path:
    """Asked for before `policies`, which take seconds to make."""
    return lerobot_python()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PolicyFolder]:
    folder = tmp_path_factory.mktemp("policies")
    found = {}
    for i, name in enumerate(POLICIES):
        (folder / str(i)).mkdir()
        found[name] = policy_of(name, folder / str(i))
    return found


def in_lerobot(
    python: Path, policies: dict[str, PolicyFolder], folder: Path, size: int = SIZE
) -> dict[str, np.ndarray]:
    """Name to float32[1, H, e]: what lerobot does with the exports; it saves each as saved_I."""
    jobs = []
    for i, policy in enumerate(policies.values()):
        export, arrays, result = (folder / f"{i}{end}" for end in ("", ".npz", "_result.npz"))
        run(flax_to_torch.main, policy.path, export, "--layout", "lerobot")
        raw, noise = observation(policy, size)
        images = dict(zip(policy.spec.robot.cameras, raw.images, strict=True))
        np.savez(arrays, state=raw.state, noise=noise, **images)
        files = {"export": str(export), "observation": str(arrays), "result": str(result)}
        jobs.append(files | {"prompt": PROMPT, "saved": str(folder / f"saved_{i}")})
    model = next(iter(policies.values())).spec.model
    job = folder / "job.json"
    job.write_text(json.dumps({"sizes": sizes(model), "policies": jobs}))
    script = Path(__file__).with_name("act_in_lerobot.py")
    done = subprocess.run([python, script, job], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = [np.load(each["result"])["actions"] for each in jobs]
    return dict(zip(policies, results, strict=True))


def test_lerobot_loads_exports_strictly_and_acts_as_we_do(
    python: Path, policies: dict[str, PolicyFolder], tmp_path: Path
) -> None:
    theirs = in_lerobot(python, policies, tmp_path)
    for name, policy in policies.items():
        np.testing.assert_allclose(theirs[name], ours(policy), rtol=0, atol=TOLERANCE, err_msg=name)
    for i, (name, policy) in enumerate(policies.items()):
        check_comes_back(policy, tmp_path / f"saved_{i}", tmp_path / f"back_{i}", name)


def check_comes_back(policy: PolicyFolder, saved: Path, back: Path, name: str) -> None:
    """What lerobot saved, with every key that it writes, is the policy again."""
    run(torch_to_flax.main, saved, back, "--robot", "libero_panda")
    found = load_policy(back)
    jax.tree.map(np.testing.assert_array_equal, found.params, policy.params)
    for field in ("quantile", "state_in_prompt", "padded_state_text"):
        assert getattr(found.spec, field) == getattr(policy.spec, field), (name, field)
    assert found.spec.action_space == policy.spec.action_space
    assert found.spec.model.prompt_length == policy.spec.model.prompt_length
    np.testing.assert_allclose(found.stats.actions.std, policy.stats.actions.std, rtol=1e-6)


def test_transformers_acts_as_we_do(tmp_path: Path) -> None:
    # The library has neither statistics nor steps before the network: transforms are ours.
    import torch

    (tmp_path / "pi0").mkdir()
    policy = policy_of("pi0", tmp_path / "pi0")
    run(flax_to_torch.main, policy.path, tmp_path / "x", "--layout", "transformers")
    model, info = PI0ForConditionalGeneration.from_pretrained(
        tmp_path / "x", output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    raw, noise = observation(policy)
    transforms = policy.transforms
    obs = transforms.observe([raw])
    tokens = policy.spec.model.vision.num_tokens * len(raw.images)
    ids = [policy.spec.model.vocab_size] * tokens + obs.prompt[obs.prompt_mask].tolist()
    with torch.no_grad():
        chunk = model.sample_actions(
            state=torch.tensor(obs.state),
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.tensor(np.moveaxis(obs.images, -1, 2) / np.float32(127.5) - 1),
            pixel_attention_mask=torch.tensor(obs.image_mask),
            noise=torch.tensor(noise),
        )
    theirs = transforms.robot_actions(chunk.numpy(), raw.state[None])
    np.testing.assert_allclose(theirs, ours(policy), rtol=0, atol=TOLERANCE)
