"""A policy that a fine-tuning for ALOHA may start from where no published weights are at hand.

python bench/aloha_start.py FOLDER OUT [--episodes 1500]

FOLDER is a LeRobot folder of gym-aloha; OUT becomes a policy folder, and OUT.robot.json its robot,
aloha_sim with relative joints (the mask 6,-1,6,-1 of openpi's other pi0_aloha*). All is random but
the first layer of the picture tower: one patch that is the whole picture, projected on its
principal components, of equal variance. That stands for a tower that was trained before: from
random filters it does not learn in an hour of two cores where a cube of two pixels lies
(docs/log.md, 2026-11-29), though the pictures say it to 2 mm. Nothing but the folder's pictures is
used.

Axis letters: n picture, f value of a picture, d width.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pi0_jax.apps.finetune_start import action_space, load_robot_file
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder, PolicySpec, save_policy
from pi0_jax.testing import plain_stats

ROBOT = Path(__file__).parent.parent / "pi0_jax" / "robots" / "aloha_sim.json"
SIDE = 128  # px
EARLY = (
    0,
    3,
    5,
)  # of an episode's pictures: nothing but the cube differs, the hand comes, it is there


def main() -> None:
    """Writes the policy and its robot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--episodes", type=int, default=1500)
    args = parser.parse_args()
    robot = args.out.with_name(args.out.name + ".robot.json")
    robot.write_text(json.dumps(relative(json.loads(ROBOT.read_text())), indent=1))
    recordings = read_lerobot(args.folder, None).recordings[: args.episodes]
    kernel, position = projection(pictures(recordings), CONFIG.vision.width)
    params = jax.tree.map(np.array, Pi0(CONFIG).init(jax.random.key(0)))
    tower = params["PaliGemma"]["img"]
    tower["embedding"] = {"kernel": kernel, "bias": np.zeros_like(tower["embedding"]["bias"])}
    tower["pos_embedding"] = position
    file = load_robot_file(str(robot))
    spec = PolicySpec(
        CONFIG,
        file.robot,
        execute_steps=CONFIG.action_horizon // 2,
        tokenizer="bytes",
        action_space=action_space(file.fine_tuning),
    )
    save_policy(args.out, PolicyFolder(spec, params, plain_stats(file.robot)), {})
    print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters: {args.out}")


def relative(robot: dict[str, Any]) -> dict[str, Any]:
    """The same robot, whose joints are predicted relative to the state; its grippers are not."""
    return robot | {"fine_tuning": {**robot["fine_tuning"], "delta_mask": "6,-1,6,-1"}}


def pictures(recordings: tuple[Recording, ...]) -> np.ndarray:
    """float32[n, f] in [-1, 1]: of each episode the early ones and one drawn at random."""
    rng = np.random.default_rng(0)
    found = []
    for recording in recordings:
        starts = recording.starts(1, skip_short=False)
        for step in (*starts[list(EARLY)], rng.choice(starts)):
            found.append(recording.observation(int(step), SIDE).images[0])
    return np.stack(found).reshape(len(found), -1).astype(np.float32) / 127.5 - 1


def projection(seen: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float32[y, x, colour, d] and bias float32[1, 1, d] with features of variance 1.

    Args:
        seen: pictures[n, f].
        width: d, below n.
    """
    mean = seen.mean(0)
    centred = seen - mean
    # n is below f: the eigenvectors come from the small matrix of inner products.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    largest = np.argsort(values)[::-1][:width]
    directions = centred.T @ vectors[:, largest] / np.sqrt(values[largest])
    kernel = directions / np.sqrt(values[largest] / len(seen))
    return kernel.reshape(SIDE, SIDE, 3, width), -(mean @ kernel)[None, None]


CONFIG = Pi0Config(
    vision=VisionConfig(SIDE, SIDE, width=256, depth=1, mlp_dim=512, num_heads=4),
    vlm=ExpertConfig(128, 256),
    action=ExpertConfig(128, 256),
    depth=2,
    num_heads=4,
    num_kv_heads=1,
    head_dim=32,
    vocab_size=260,
    action_dim=14,
    action_horizon=40,
    prompt_length=16,
    compute_dtype="float32",
)


if __name__ == "__main__":
    main()
