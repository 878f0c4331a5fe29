"""Which files of a checkpoint hold something other than the policy's weights, and why.

The lists are data: a pattern for a file's path inside the checkpoint, and what such a file is. A
pattern without a slash is one for the name, in any folder.
"""

from fnmatch import fnmatchcase
from pathlib import PurePath

HIDDEN = "."
"""How names begin that editors, copying programs and desktops give: no library reads such files."""

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
MATTERS = (*WEIGHT_SUFFIXES, ".json", ".npz", ".npy", ".pkl", ".pickle", ".msgpack", ".h5")
"""Endings of files that may hold weights, statistics or settings."""

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"

TRAINING = {
    "optimizer*": "state of the optimizer",
    "optimizer*/*": "state of the optimizer",
    "*optim_states.pt": "state of the optimizer (DeepSpeed)",
    "zero_pp_rank_*": "one process's part of a state (DeepSpeed)",
    "checkpoint_rank_*.pt": "one process's part of a state (RLinf)",
    "rank_*.pt": "one process's part of a state",
    "*scheduler*": "state of the learning rate",
    "rng_state*": "state of random generators",
    "random_states_*": "state of random generators",
    "scaler.pt": "state of the loss scale",
    "grad_scaler.pt": "state of the loss scale",
    "training_state/*": "state of the training (lerobot)",
    "training_args.bin": "settings of the training (transformers)",
    "trainer_state.json": "progress of the training (transformers)",
    "training_step.json": "progress of the training (lerobot)",
    "metadata.pt": "progress of the training (openpi)",
    "train_config.json": "settings of the training (lerobot); config.json holds the policy's",
    "train_state/*": "state of the training (openpi); params/ holds the weights",
    "dcp_checkpoint/*": "state of the training in one part per process (RLinf)",
}
"""Files of a training run. None changes what the policy does."""

STATISTICS = {
    "*_step_*processor.safetensors": "statistics of a processor (lerobot)",
    "*processor*.safetensors": "statistics of a processor (lerobot)",
}
"""Files of tensors that are statistics; `statistics.py` reads them by the processors' own files."""


def reason(path: PurePath | str, known: dict[str, str]) -> str | None:
    """What a file is by a list of this module; None where no pattern fits.

    Args:
        path: its path inside the checkpoint, or its name.
        known: pattern to reason.
    """
    path = PurePath(path)
    for pattern, why in known.items():
        if fnmatchcase(path.name, pattern):
            return why
        if "/" in pattern and fnmatchcase(f"/{path.as_posix()}", f"*/{pattern}"):
            return why
    return None


def may_hold_weights(name: str) -> bool:
    """Whether a file may hold the policy's weights, as far as its name says."""
    if PurePath(name).suffix not in WEIGHT_SUFFIXES or name in ADAPTER_FILES:
        return False
    if name.startswith(HIDDEN):
        return False
    return reason(name, TRAINING | STATISTICS) is None
