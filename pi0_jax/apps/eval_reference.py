"""Which policy the guidance of an evaluation leads away from: `config.eval.reference`."""

from pathlib import Path

from pi0_jax.apps.settings import TrainSettings
from pi0_jax.apps.start import conditioned, fingerprint
from pi0_jax.errors import InputError
from pi0_jax.json_file import read_object
from pi0_jax.policy.folder import PolicyFolder, load_policy
from pi0_jax.policy.reference import BASE, KINDS, kinds_of
from pi0_jax.policy.reference_fit import with_reference
from pi0_jax.rollout.evaluate import EvalConfig
from pi0_jax.run.folder import START
from pi0_jax.run.methods import BASE as RUN_BASE

_POLICY = "policy"  # of a run folder


def check_reference_settings(settings: TrainSettings) -> None:
    """Checks that a training can have the reference that its settings ask for.

    Raises:
        InputError: a path, or a reference to be kept where there is no RL.
    """
    words = settings.eval.reference.split("+")
    if not {*words} <= {*KINDS}:
        raise InputError(
            f"config.eval.reference is {settings.eval.reference!r}: in a training it is one of "
            f"{', '.join(map(repr, KINDS))}, and {BASE!r} is the policy that RL starts from; "
            "pi0-eval takes a path"
        )
    if settings.keep_reference and not settings.rl.iterations:
        raise InputError(
            "config.keep_reference is True, but config.rl.iterations is 0: the policy is its own "
            "base; set one of them to the other's default"
        )


def with_base(policy: PolicyFolder, base: PolicyFolder) -> PolicyFolder:
    """A trained policy with the policy that it was trained from as its reference."""
    # RL may have given the base its branch mode (`train_method`); it acted in that one from then.
    return with_reference(policy, conditioned(base, policy.spec.branch_mode))


def find_base(policy: PolicyFolder, evaluation: EvalConfig) -> Path | None:
    """The policy folder that an evaluation needs as a base beside the policy.

    Args:
        policy: the policy to evaluate.
        evaluation: `config.eval`.

    Returns:
        None if it needs none: for other references, at guidance 1 alone, or where the policy
        carries its own.

    Raises:
        InputError: the policy carries no reference, and lies in no run folder with a base.
    """
    if BASE not in evaluation.references:
        return None
    if kinds_of(evaluation.reference) == (BASE,) and evaluation.reference != BASE:
        return Path(evaluation.reference).expanduser()
    if policy.reference is not None:
        return None
    assert policy.path is not None  # it was read from a folder
    run = policy.path.resolve().parent
    if policy.path.resolve().name == _POLICY:
        if (run / RUN_BASE).is_dir():
            return run / RUN_BASE
        if (run / f"{RUN_BASE}.json").is_file():
            return _pointed_at(run / f"{RUN_BASE}.json")
    raise InputError(
        f"config.eval.reference is {BASE!r}, but {policy.path} carries no reference and is not the "
        "policy of a run folder with its base; name a policy folder in config.eval.reference, or "
        "evaluate it as it is: config.eval.guidance='(1.0,)'"
    )


def read_base(policy: PolicyFolder, base: Path | None) -> PolicyFolder:
    """The policy with the base in this folder as its reference; as it is with None.

    Raises:
        InputError: it is no policy folder, or does not fit.
    """
    return policy if base is None else with_reference(policy, load_policy(base))


def _pointed_at(file: Path) -> Path:
    """The checkpoint that a run without a base of its own started from (`start.point_at`).

    Raises:
        InputError: the file is damaged, or another checkpoint is there now.
    """
    if (own := file.with_name(START)).is_dir():
        return own
    try:
        found = read_object(file)
        checkpoint, before = Path(found["checkpoint"]), found["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is damaged ({error!r}); restore it") from error
    if not checkpoint.is_dir() or fingerprint(checkpoint) != before:
        raise InputError(
            f"{file}: {checkpoint} is gone or is another checkpoint than the one that the run "
            "started from; put that back, or name it in config.eval.reference"
        )
    return checkpoint
