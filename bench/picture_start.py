"""A small policy to start from where no published weights are at hand: its pictures are not random.

python bench/picture_start.py POLICY FOLDER OUT [--side 128] [--horizon 40] [--relative MASK]

POLICY says robot, prompt and actions (of its weights nothing is used), FOLDER is a LeRobot folder
of that robot, and OUT becomes a policy folder. Everything in it is random but the first layer of
the picture tower: one patch that is the whole picture, projected on its principal components, each
of variance 1. That stands for a tower that was trained before: a random one does not learn within
an hour of two cores where a cube of two pixels lies (docs/log.md, 2026-11-29), though the pictures
say it to 2 mm. Nothing but the folder's pictures is used.

With --relative, joints are predicted relative to the state where the mask says so (as in openpi's
pi0_aloha*: 6,-1,6,-1), and OUT.robot.json becomes the robot file that `configs/finetune.py` takes.

Axis letters: n picture, f value of a picture, d width.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from pi0_jax.apps.finetune_start import action_space, load_robot_file
from pi0_jax.data.lerobot.folder import read_lerobot
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.model.config import ExpertConfig, Pi0Config, VisionConfig
from pi0_jax.model.pi0 import Pi0
from pi0_jax.policy.folder import PolicyFolder, open_policy, save_policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.testing import plain_stats

ROBOTS = Path(__file__).parent.parent / "pi0_jax" / "robots"
# Of an episode's pictures: only the objects differ, the hand comes, the hand is there.
EARLY = (0, 3, 5)
MOST = 6000  # pictures: their inner products are a matrix of this side


def main() -> None:
    """Writes the policy, and its robot where that is another one."""
    args = arguments()
    given = open_policy(args.policy).spec
    model = sizes(given.model, args.side, args.horizon)
    spec = replace(given, model=model, execute_steps=args.horizon // 2)
    if args.relative:
        spec = relative(spec, args.relative, args.out.with_name(args.out.name + ".robot.json"))
    recordings = read_lerobot(args.folder, spec.robot.cameras).recordings
    kernel, position = projection(pictures(recordings, args.side), model.vision.width)
    params = jax.tree.map(np.array, Pi0(model).init(jax.random.key(0)))
    tower = params["PaliGemma"]["img"]
    tower["embedding"] = {"kernel": kernel, "bias": np.zeros_like(tower["embedding"]["bias"])}
    tower["pos_embedding"] = position
    save_policy(args.out, PolicyFolder(spec, params, plain_stats(spec.robot)), {})
    print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters: {args.out}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("policy", "folder", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--horizon", type=int, default=40)
    parser.add_argument("--relative", metavar="MASK")
    return parser.parse_args()


def sizes(model: Pi0Config, side: int, horizon: int) -> Pi0Config:
    """The same interface with other sizes: one token per picture of `side` pixels."""
    return replace(
        model,
        vision=VisionConfig(side, side, width=256, depth=1, mlp_dim=512, num_heads=4),
        vlm=ExpertConfig(128, 256),
        action=ExpertConfig(128, 256),
        depth=2,
        num_heads=4,
        num_kv_heads=1,
        head_dim=32,
        action_horizon=horizon,
    )


def relative(spec: PolicySpec, mask: str, path: Path) -> PolicySpec:
    """The same policy with relative joints; writes its robot to `path`."""
    robot = json.loads((ROBOTS / f"{spec.robot.name}.json").read_text())
    robot["fine_tuning"] = robot.get("fine_tuning", {}) | {"delta_mask": mask}
    path.write_text(json.dumps(robot, indent=1))
    return replace(spec, action_space=action_space(load_robot_file(str(path)).fine_tuning))


def pictures(recordings: tuple[Recording, ...], side: int) -> np.ndarray:
    """float32[n, f] in [-1, 1]: of each episode the early ones and one drawn at random."""
    rng = np.random.default_rng(0)
    per_episode = (len(EARLY) + 1) * len(recordings[0].pictures)
    found = []
    for recording in recordings[: MOST // per_episode]:
        starts = recording.starts(1, skip_short=False)
        early = np.minimum(EARLY, len(starts) - 1)
        for step in (*starts[early], rng.choice(starts)):
            found.extend(recording.observation(int(step), side).images)
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
    side = round(np.sqrt(seen.shape[1] / 3))
    return kernel.reshape(side, side, 3, width), -(mean @ kernel)[None, None]


if __name__ == "__main__":
    main()
