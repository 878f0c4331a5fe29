"""The table: our leaf <-> PyTorch tensors, with axes. Data and reshapes only, no I/O.

Our leaves are those of the official openpi tree, path for path and axis for axis, so the JAX side
needs no table of its own. Every PyTorch layout holds the same tensors under other prefixes
(`TorchLayout`); no layout stores a scaled or permuted weight.

Axes are written by name, in order. `(heads head_dim) vlm` is a matrix whose rows run over heads
and, faster, over head dimensions. `depth` and `vision_depth` lead our stacked leaves and are the
number {i} in a PyTorch name. A leaf axis `2` stacks the tensors of one leaf (key and value, gate
and up). Both sides' shapes follow from the names and one dict of sizes.

    depth vision_depth        layers of both experts, of the image tower
    vlm action vision         residual widths             vlm_mlp action_mlp vision_mlp
    heads kv_heads head_dim   attention of both experts   vision_heads vision_head_dim
    positions patch_y patch_x rgb vocab      dims: padded state and action dimension
    modulation                three times action: scale, shift and gate of a norm of pi0.5
"""

import math
from dataclasses import dataclass

import numpy as np

DEPTHS = ("depth", "vision_depth")


@dataclass(frozen=True)
class Tensor:
    """One PyTorch tensor.

    Attributes:
        key: its name, with placeholders such as {vlm} for the prefixes of `TorchLayout`.
        axes: names of its axes, in order.
    """

    key: str
    axes: str


@dataclass(frozen=True)
class Leaf:
    """One leaf of our tree.

    Attributes:
        path: slash-joined path in our tree.
        axes: names of its axes, in order.
        tensors: the PyTorch tensors that hold it (those of one layer, if it has layers).
    """

    path: str
    axes: str
    tensors: tuple[Tensor, ...]

    @property
    def depth(self) -> str | None:
        """Name of the leading layer axis, if there is one."""
        first = self.axes.split()[0]
        return first if first in DEPTHS else None

    @property
    def layer_axes(self) -> str:
        """Axes of one layer."""
        return self.axes.removeprefix(f"{self.depth} ") if self.depth else self.axes

    @property
    def part_axes(self) -> str:
        """Axes, in our order, of the part that one PyTorch tensor holds."""
        return self.layer_axes.removeprefix("2 ") if len(self.tensors) == 2 else self.layer_axes


@dataclass(frozen=True)
class TorchLayout:
    """Prefixes of one PyTorch layout.

    Attributes:
        name: the layout's name in messages and manifests.
        family: its name as a value of --layout.
        vision: prefix of the image tower; the level `vision_model.` after it is optional in every
            layout.
        projector: prefix of the projection from image tower to language model.
        vlm: prefix of the language model, expert 0.
        expert: prefix of the action expert.
        inputs: prefix of the state, action and time projections.
        output: prefix of the projection back to actions.
        unused: keys of the action expert's word tables [vocab, action], which may be present and
            which no forward pass reads, with the reason.
        query_heads: number of query heads that the layout's own code fixes, whatever its config
            says; None if it fixes none.
        lm_head: key of the output word table. It is tied to the token embedding, and is read
            where the embedding is absent. None if the layout has none.
        tied: whether every version of the library ties the two, so that they hold the same values.
    """

    name: str
    family: str
    vision: str
    projector: str
    vlm: str
    expert: str
    inputs: str
    output: str
    unused: dict[str, str]
    query_heads: int | None = None
    lm_head: str | None = None
    tied: bool = True

    def key(self, tensor: Tensor, layer: int = 0) -> str:
        """The PyTorch name of a tensor."""
        return tensor.key.format(
            vision=self.vision,
            projector=self.projector,
            vlm=self.vlm,
            expert=self.expert,
            inputs=self.inputs,
            output=self.output,
            i=layer,
        )


_HEADLESS = "the action expert predicts no words"


def _layout(
    name: str, family: str, prefix: str, paligemma: str, vlm: str, lm_head: str
) -> TorchLayout:
    """A layout in which openpi's class `PaliGemmaWithExpertModel` gives the names."""
    # `paligemma` and `vlm` are the levels that differ between versions of transformers.
    root = f"{prefix}paligemma_with_expert"
    tower = f"{root}.paligemma{paligemma}"
    return TorchLayout(
        name=name,
        family=family,
        vision=f"{tower}.vision_tower",
        projector=f"{tower}.multi_modal_projector",
        vlm=f"{tower}.language_model{vlm}",
        expert=f"{root}.gemma_expert.model",
        inputs=prefix,
        output=prefix,
        unused={
            f"{root}.gemma_expert.lm_head.weight": _HEADLESS,
            f"{root}.gemma_expert.model.embed_tokens.weight": _HEADLESS,
        },
        # openpi and lerobot both reshape the attention's output to 8 heads, as a literal.
        query_heads=None if family == "transformers" else 8,
        lm_head=f"{root}.paligemma.{lm_head}.weight",
        # lerobot unties them from 0.5 on, under the names of 0.4.
        tied=(family, vlm) != ("lerobot", ""),
    )


# One entry per spelling of the names that a library has written.
OPENPI = _layout("openpi", "openpi", "", ".model", "", "lm_head")
LEROBOT = _layout("lerobot", "lerobot", "model.", ".model", "", "lm_head")
LEROBOT_OLD = _layout(
    "lerobot 0.1-0.3 (transformers < 4.52)",
    "lerobot",
    "model.",
    "",
    ".model",
    "language_model.lm_head",
)
TRANSFORMERS_HYBRID = _layout(
    "transformers (mixed names)", "transformers", "", ".model", ".model", "lm_head"
)
TRANSFORMERS = TorchLayout(
    name="transformers",
    family="transformers",
    vision="model.vlm.vision_tower",
    projector="model.vlm.multi_modal_projector",
    vlm="model.vlm.language_model",
    expert="model.dit",
    inputs="embed_action_time.",
    output="",
    unused={"model.dit.embed_tokens.weight": _HEADLESS},
)
LAYOUTS = (OPENPI, LEROBOT, LEROBOT_OLD, TRANSFORMERS_HYBRID, TRANSFORMERS)

STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
"""Prefixes of the statistics that lerobot 0.1-0.3 keeps among the weights."""


def _vision(path: str, key: str, axes: str, torch_axes: str | None = None) -> Leaf:
    """A leaf of the image tower."""
    tensor = Tensor("{vision}." + key, torch_axes or axes.removeprefix("vision_depth "))
    return Leaf("PaliGemma/img/" + path, axes, (tensor,))


def _vision_norm(path: str, key: str, axes: str) -> tuple[Leaf, ...]:
    return (
        _vision(path + "/scale", key + ".weight", axes),
        _vision(path + "/bias", key + ".bias", axes),
    )


def _vision_attention(name: str, key: str) -> tuple[Leaf, ...]:
    """Query, key or value of the image tower."""
    block = "Transformer/encoderblock/MultiHeadDotProductAttention_0/"
    key, heads = f"encoder.layers.{{i}}.self_attn.{key}", "(vision_heads vision_head_dim)"
    axes = "vision_depth vision vision_heads vision_head_dim"
    bias = "vision_depth vision_heads vision_head_dim"
    return (
        _vision(f"{block}{name}/kernel", f"{key}.weight", axes, f"{heads} vision"),
        _vision(f"{block}{name}/bias", f"{key}.bias", bias, heads),
    )


def _vision_dense(name: str, key: str, fan_in: str, fan_out: str) -> tuple[Leaf, ...]:
    block, key = "Transformer/encoderblock/MlpBlock_0/", f"encoder.layers.{{i}}.mlp.{key}"
    axes = f"vision_depth {fan_in} {fan_out}"
    return (
        _vision(f"{block}{name}/kernel", f"{key}.weight", axes, f"{fan_out} {fan_in}"),
        _vision(f"{block}{name}/bias", f"{key}.bias", f"vision_depth {fan_out}"),
    )


def _norm(path: str, key: str, axes: str, *, adaptive: bool) -> tuple[Leaf, ...]:
    """A norm of a decoder: its scale, or (adaptive) the layer that makes scale, shift and gate."""
    width = axes.removeprefix("depth ")
    if not adaptive:
        return (Leaf(f"{path}/scale", axes, (Tensor(f"{key}.weight", width),)),)
    kernel = Tensor(f"{key}.dense.weight", f"modulation {width}")
    bias = Tensor(f"{key}.dense.bias", "modulation")
    return (
        Leaf(f"{path}/Dense_0/kernel", f"{axes} modulation", (kernel,)),
        Leaf(f"{path}/Dense_0/bias", axes.replace(width, "modulation"), (bias,)),
    )


def _decoder(suffix: str, tower: str, width: str, *, adaptive: bool = False) -> tuple[Leaf, ...]:
    """One expert.

    Args:
        suffix: "" or "_1" in our paths.
        tower: name of its prefix in the layout.
        width: its residual axis.
        adaptive: whether its norms are those of pi0.5.
    """
    # PyTorch's attention matrices are flat: their rows run over heads, then over the dimensions
    # of one head. Ours keep heads and head dimensions as two axes.
    ours, theirs = "PaliGemma/llm/layers/", f"{{{tower}}}.layers.{{i}}."
    attn, mlp = f"{theirs}self_attn.", f"{theirs}mlp."
    hidden, keys = f"{width}_mlp", f"(kv_heads head_dim) {width}"

    def leaf(path: str, axes: str, *tensors: Tensor) -> Leaf:
        """A leaf of every layer."""
        return Leaf(ours + path, f"depth {axes}", tensors)

    return (
        leaf(
            f"attn/q_einsum{suffix}/w",
            f"heads {width} head_dim",
            Tensor(f"{attn}q_proj.weight", f"(heads head_dim) {width}"),
        ),
        leaf(
            f"attn/kv_einsum{suffix}/w",
            f"2 kv_heads {width} head_dim",
            Tensor(f"{attn}k_proj.weight", keys),
            Tensor(f"{attn}v_proj.weight", keys),
        ),
        leaf(
            f"attn/attn_vec_einsum{suffix}/w",
            f"heads head_dim {width}",
            Tensor(f"{attn}o_proj.weight", f"{width} (heads head_dim)"),
        ),
        # The gate comes first: it passes through GELU and multiplies the other half.
        leaf(
            f"mlp{suffix}/gating_einsum",
            f"2 {width} {hidden}",
            Tensor(f"{mlp}gate_proj.weight", f"{hidden} {width}"),
            Tensor(f"{mlp}up_proj.weight", f"{hidden} {width}"),
        ),
        leaf(
            f"mlp{suffix}/linear",
            f"{hidden} {width}",
            Tensor(f"{mlp}down_proj.weight", f"{width} {hidden}"),
        ),
        *_norm(
            f"{ours}pre_attention_norm{suffix}",
            f"{theirs}input_layernorm",
            f"depth {width}",
            adaptive=adaptive,
        ),
        *_norm(
            f"{ours}pre_ffw_norm{suffix}",
            f"{theirs}post_attention_layernorm",
            f"depth {width}",
            adaptive=adaptive,
        ),
        # One per expert, not per layer.
        *_norm(f"PaliGemma/llm/final_norm{suffix}", f"{{{tower}}}.norm", width, adaptive=adaptive),
    )


def _dense(path: str, key: str, fan_in: str, fan_out: str) -> tuple[Leaf, ...]:
    # JAX multiplies x @ kernel [fan_in, fan_out], PyTorch x @ weight.T with [fan_out, fan_in].
    return (
        Leaf(
            f"{path}/kernel",
            f"{fan_in} {fan_out}",
            (Tensor(f"{key}.weight", f"{fan_out} {fan_in}"),),
        ),
        Leaf(f"{path}/bias", fan_out, (Tensor(f"{key}.bias", fan_out),)),
    )


EMBEDDING = Leaf(
    "PaliGemma/llm/embedder/input_embedding",
    "vocab vlm",
    (Tensor("{vlm}.embed_tokens.weight", "vocab vlm"),),
)
_PALIGEMMA: tuple[Leaf, ...] = (
    # Image tower (SigLIP). The patch embedding is a convolution, [out, in, y, x] in PyTorch.
    _vision(
        "embedding/kernel",
        "embeddings.patch_embedding.weight",
        "patch_y patch_x rgb vision",
        "vision rgb patch_y patch_x",
    ),
    _vision("embedding/bias", "embeddings.patch_embedding.bias", "vision"),
    # Our leading axis of 1 is a batch axis, which PyTorch's table lacks.
    _vision(
        "pos_embedding",
        "embeddings.position_embedding.weight",
        "1 positions vision",
        "positions vision",
    ),
    *_vision_norm(
        "Transformer/encoderblock/LayerNorm_0",
        "encoder.layers.{i}.layer_norm1",
        "vision_depth vision",
    ),
    *_vision_attention("query", "q_proj"),
    *_vision_attention("key", "k_proj"),
    *_vision_attention("value", "v_proj"),
    _vision(
        "Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel",
        "encoder.layers.{i}.self_attn.out_proj.weight",
        "vision_depth vision_heads vision_head_dim vision",
        "vision (vision_heads vision_head_dim)",
    ),
    _vision(
        "Transformer/encoderblock/MultiHeadDotProductAttention_0/out/bias",
        "encoder.layers.{i}.self_attn.out_proj.bias",
        "vision_depth vision",
    ),
    *_vision_norm(
        "Transformer/encoderblock/LayerNorm_1",
        "encoder.layers.{i}.layer_norm2",
        "vision_depth vision",
    ),
    *_vision_dense("Dense_0", "fc1", "vision", "vision_mlp"),
    *_vision_dense("Dense_1", "fc2", "vision_mlp", "vision"),
    *_vision_norm("Transformer/encoder_norm", "post_layernorm", "vision"),
    # From the image tower's width to that of the language model.
    *_dense("PaliGemma/img/head", "{projector}.linear", "vision", "vlm"),
    # Language model.
    EMBEDDING,
    *_decoder("", "vlm", "vlm"),
)
LEAVES: tuple[Leaf, ...] = (
    *_PALIGEMMA,
    *_decoder("_1", "expert", "action"),
    # State, noisy actions and time into the action expert, and its output back to actions.
    *_dense("state_proj", "{inputs}state_proj", "dims", "action"),
    *_dense("action_in_proj", "{inputs}action_in_proj", "dims", "action"),
    *_dense("action_time_mlp_in", "{inputs}action_time_mlp_in", "action_and_time", "action"),
    *_dense("action_time_mlp_out", "{inputs}action_time_mlp_out", "action", "action_out"),
    *_dense("action_out_proj", "{output}action_out_proj", "action", "dims"),
)
"""The 50 leaves of the official tree of pi0."""

PI05_LEAVES: tuple[Leaf, ...] = (
    *_PALIGEMMA,
    *_decoder("_1", "expert", "action", adaptive=True),
    *_dense("action_in_proj", "{inputs}action_in_proj", "dims", "action"),
    *_dense("time_mlp_in", "{inputs}time_mlp_in", "action", "action_out"),
    *_dense("time_mlp_out", "{inputs}time_mlp_out", "action", "action_out"),
    *_dense("action_out_proj", "{output}action_out_proj", "action", "dims"),
)
"""The 51 leaves of the official tree of pi0.5."""


def leaves(*, pi05: bool) -> tuple[Leaf, ...]:
    """The official tree of pi0.5 or of pi0."""
    return PI05_LEAVES if pi05 else LEAVES


def axis_names(axes: str) -> list[str]:
    """`(heads head_dim) vlm` -> ["heads", "head_dim", "vlm"]; a literal `1` is no name."""
    return [name for name in axes.replace("(", "").replace(")", "").split() if name != "1"]


def groups(axes: str) -> list[str]:
    """One entry per dimension: `(heads head_dim) vlm` -> ["heads head_dim", "vlm"]."""
    found, names = [], iter(axes.split())
    for name in names:
        # An open bracket takes the words up to its end from the same iterator.
        while name.count("(") > name.count(")"):
            name += " " + next(names)
        found.append(name.strip("()"))
    return found


def shape(axes: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """The shape that axes have: `(heads head_dim) vlm` with sizes 8, 16, 64 -> (128, 64)."""
    sizes = {**sizes, "1": 1, "2": 2}
    return tuple(math.prod(sizes[name] for name in group.split()) for group in groups(axes))


def rearrange(x: np.ndarray, axes: str, to: str, sizes: dict[str, int]) -> np.ndarray:
    """Moves axes. Conversion needs no other operation, and swapping `axes` and `to` undoes it.

    Args:
        x: array with the shape of `axes`.
        axes: its axes, such as "(heads head_dim) vlm".
        to: the same axes otherwise ordered and grouped, such as "heads vlm head_dim".
        sizes: size of every axis.

    Returns:
        Array with the shape of `to`; a view where NumPy can make one.
    """
    names = axis_names(axes)
    # For q_proj: [heads head_dim, vlm] -> [heads, head_dim, vlm]
    apart = x.reshape([sizes[name] for name in names])
    # -> [heads, vlm, head_dim]
    moved = apart.transpose([names.index(name) for name in axis_names(to)])
    # Groups of `to`, if it has any, become one dimension again.
    return moved.reshape(shape(to, sizes))
