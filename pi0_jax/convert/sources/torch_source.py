"""A PyTorch checkpoint of any layout as a `Source`: recognised by its keys, every key checked."""

from pathlib import Path

import numpy as np

from pi0_jax.convert.keys.architecture import HORIZON_ASSUMED, Settings, config_from_sizes, vote
from pi0_jax.convert.keys.heads import UNKNOWN, DeclaredHeads, split
from pi0_jax.convert.keys.keymap import (
    EMBEDDING,
    STATISTICS,
    Leaf,
    Tensor,
    TorchLayout,
    groups,
    rearrange,
)
from pi0_jax.convert.keys.layout_copy import fill
from pi0_jax.convert.settings.torch_config import check_model, read_config
from pi0_jax.convert.settings.transformers_processor import refuse_statistics
from pi0_jax.convert.sources import other_policies, torch_keys
from pi0_jax.convert.sources.source import CheckpointInfo
from pi0_jax.convert.sources.torch_weights import ANY, Choice, Weights, open_weights
from pi0_jax.errors import InputError
from pi0_jax.io import tree_check


class TorchSource:
    """`Source` of a PyTorch checkpoint.

    Attributes:
        info: layout, architecture, and which keys are used.
        layout: prefixes of the names.
        tensors: the tensors, under their layout's names.
        folders: where config.json and the statistics may lie; the first comes first.
        folder: the first of them.
        config: what their config.json declares.
        cond_embed: None, because no PyTorch layout has a condition.
    """

    cond_embed: np.ndarray | None = None

    def __init__(
        self,
        path: Path,
        family: str = "auto",
        flags: DeclaredHeads = UNKNOWN,
        horizon: int | None = None,
        choice: Choice = ANY,
    ):
        """Opens a folder or file and checks every key, shape and dtype; reads no weights yet.

        Args:
            path: checkpoint folder, weight file, or the folder of a run with one checkpoint.
            family: value of --layout.
            flags: head counts from the command line.
            horizon: actions per chunk; None for the config's, or 50 if it has none.
            choice: which weights are meant, from the command line.

        Raises:
            InputError: no known layout, another than `family`, or one list of everything wrong.
        """
        weights = open_weights(path, choice)
        self.tensors, self.folders = weights.tensors, weights.folders
        self.folder = self.folders[0]
        described = _first_with_config(self.folders)
        other_policies.refuse_config(described)
        self.config = read_config(described)
        for folder in self.folders:
            if folder != described:  # an adapter's, which has no config.json
                refuse_statistics(folder)
        # Without heads that RL adds, and statistics, which `statistics.from_tensors` reads.
        self._all_keys = torch_keys.without_optional_level(self.tensors.shapes, path)
        self._heads = other_policies.rl_heads(self._all_keys)
        self._keys = {
            key: on_disk
            for key, on_disk in self._all_keys.items()
            if not key.startswith(STATISTICS) and key not in self._heads
        }
        other_policies.refuse_keys(self._keys, path)
        self.layout, self._pi05 = self._recognise(family, path)
        self._embedding = torch_keys.embedding_key(self.layout, self._keys)
        grouped = self._account(path)
        self._sizes = split(grouped, flags, self._declared(), self.layout.query_heads)
        self.info = self._info(weights, horizon or self.config.action_horizon)
        check_model(self.config, self.info.config, path)
        if not weights.merged:  # an adapter may change the one that is read
            self._check_tied(path)

    def _check_tied(self, path: Path) -> None:
        """Checks that two names of one tied tensor hold the same values.

        Raises:
            InputError: they differ, so one was changed or is of another checkpoint.
        """
        head, words = self.layout.lm_head, self._embedding
        if not self.layout.tied or head is None or head == words or head not in self._keys:
            return
        keys = self._keys[head], self._keys[words]
        if not np.array_equal(self.tensors.read(keys[0]), self.tensors.read(keys[1])):
            raise InputError(
                f"{path}: {keys[0]} and {keys[1]} differ, which are one tensor in "
                f"{self.layout.name}; take out the one that is not the model's, or fetch it again"
            )

    def _recognise(self, family: str, path: Path) -> tuple[TorchLayout, bool]:
        """The layout of the keys, and whether the model is a pi0.5.

        Raises:
            InputError: it is none, or another than `family`.
        """
        layout, pi05 = torch_keys.recognise(self._keys, path)
        if pi05 and layout.family == "transformers":
            raise InputError(
                f"{path}: the keys are those of a pi0.5 of transformers, which has none; convert "
                "the checkpoint that openpi or lerobot wrote"
            )
        torch_keys.check_family(layout, family, self.config, path)
        return layout, pi05

    def _info(self, weights: Weights, horizon: int | None) -> CheckpointInfo:
        """What is known, now that every key and shape has been checked."""
        unused = torch_keys.unused_keys(self.layout, self._keys, self._embedding)
        used = [on_disk for key, on_disk in self._keys.items() if key not in unused]
        settings = Settings(horizon or 50, self.config.prompt_length)
        return CheckpointInfo(
            layout=self.layout.name,
            config=config_from_sizes(self._sizes, settings),
            dtypes=frozenset(self.tensors.dtypes[key] for key in used),
            files=self.tensors.files,
            used=sorted(used + weights.merged),
            unused=weights.unread
            | {self._all_keys[key]: why for key, why in self._heads.items()}
            | {self._keys[key]: why for key, (_, why) in unused.items()},
            notes=[*weights.notes, self._heads_note(), *[HORIZON_ASSUMED] * (not horizon)],
        )

    def read(self, leaf: Leaf, layer: int | None) -> np.ndarray:
        """One layer of a leaf in our axes."""
        # For q_proj: [heads head_dim, vlm] on disk -> [heads, vlm, head_dim], a view.
        parts = [
            rearrange(self._tensor(leaf, t, layer), t.axes, leaf.part_axes, self._sizes)
            for t in leaf.tensors
        ]
        if len(parts) == 1:
            return parts[0]
        # Two tensors become one leaf [2, ...]. np.stack would copy a transposed view element by
        # element.
        both = np.empty((len(parts), *parts[0].shape), parts[0].dtype)
        for out, part in zip(both, parts, strict=True):
            fill(out, part)
        return both

    def _tensor(self, leaf: Leaf, tensor: Tensor, layer: int | None) -> np.ndarray:
        key = self._embedding if leaf is EMBEDDING else self.layout.key(tensor, layer or 0)
        return self.tensors.read(self._keys[key])

    def _account(self, path: Path) -> dict[str, int]:
        """Checks names, shapes and dtypes; returns the sizes of the (grouped) axes.

        Raises:
            InputError: one list of everything that is wrong, with values that are not finite.
        """
        # A config that states the depth is right even if whole layers are missing.
        depths = {
            "depth": torch_keys.depth(self._keys, f"{self.layout.vlm}.layers."),
            "vision_depth": torch_keys.depth(self._keys, f"{self.layout.vision}.encoder.layers."),
        } | self.config.depths
        expected = torch_keys.expected_keys(self.layout, depths, self._embedding, pi05=self._pi05)
        unused = torch_keys.unused_keys(self.layout, self._keys, self._embedding)
        axes = {key: tensor.axes for key, (_, tensor) in expected.items()}
        axes |= {key: names for key, (names, _) in unused.items()}
        found = {key: self.tensors.shapes[on_disk] for key, on_disk in self._keys.items()}
        # In a fixed order, so that a tie is decided alike in every process.
        sizes = vote((axes[key], found[key]) for key in sorted(found.keys() & axes.keys()))
        torch_keys.check_depths(depths, sizes, self.config, path)
        wanted = {
            key: tuple(sizes.get(group, 0) for group in groups(names))
            for key, names in axes.items()
        }
        problems = tree_check.compare(wanted, found) + tree_check.dtypes(self._dtypes())
        if problems:
            tree_check.fail(path, problems + self._not_finite())
        return sizes | depths

    def _dtypes(self) -> dict[str, str]:
        return {key: self.tensors.dtypes[on_disk] for key, on_disk in self._keys.items()}

    def _not_finite(self) -> list[str]:
        return tree_check.not_finite(
            (key, self.tensors.read(self._keys[key]))
            for key, dtype in sorted(self._dtypes().items())
            if dtype in tree_check.WEIGHT_DTYPES
        )

    def _declared(self) -> DeclaredHeads:
        """Head counts from the header that our own exports have, or from config.json."""
        header = self.tensors.metadata
        if "num_heads" not in header:
            return self.config.heads
        found = [header.get(name, "") for name in DeclaredHeads._fields]
        if not all(text.isdecimal() and int(text) for text in found):
            raise InputError(
                f"{self.tensors.files[0]}: its header has head counts {', '.join(found)}; expected "
                "positive numbers"
            )
        return DeclaredHeads(*map(int, found))

    def _heads_note(self) -> str:
        sizes = self._sizes
        return (
            f"{sizes['heads']} query heads and {sizes['kv_heads']} key/value heads of "
            f"{sizes['head_dim']}; image tower {sizes['vision_heads']} heads of "
            f"{sizes['vision_head_dim']}"
        )


def _first_with_config(folders: tuple[Path, ...]) -> Path:
    # An adapter's folder comes before that of its base.
    return next((folder for folder in folders if (folder / "config.json").is_file()), folders[0])
