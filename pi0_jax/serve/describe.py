"""What a server says of itself: metadata for its clients, and lines for its operator."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from pi0_jax import __version__
from pi0_jax.policy.policy import Policy
from pi0_jax.policy.spec import PolicySpec
from pi0_jax.robot import Dimension
from pi0_jax.serve.request import Rules

OWN = "pi0_jax"
"""The key of the metadata under which our own entries are; openpi's lie beside it."""


def metadata(policy: Policy, spec: PolicySpec, rules: Rules, fingerprint: str) -> dict[str, Any]:
    """What a client gets when it connects, as plain values.

    Args:
        policy: that is served.
        spec: of its folder.
        rules: of requests.
        fingerprint: tells one policy folder from another.
    """
    own = {
        "version": __version__,
        "policy": fingerprint,
        "robot": dataclasses.asdict(rules.robot),
        "layout": rules.layouts[0].name,
        "keys": list(rules.layouts[0].keys),
        "action_horizon": policy.model.config.action_horizon,
        "execute_steps": spec.execute_steps,
        "rows": policy.rows,
        "reference": policy.reference.kind,
        "guidance": rules.default.guidance,
        "guidance_limits": list(rules.guidance),
        "num_flow_steps": rules.default.num_flow_steps,
        "num_flow_steps_limits": list(rules.num_flow_steps),
        "seeds": rules.seeds,
        "real_time": rules.horizon > 0,
    }
    return {**rules.layouts[0].metadata, OWN: own}


def description(policy: Policy, spec: PolicySpec, rules: Rules) -> str:
    """What is served, in lines for the operator."""
    robot, config, layout = rules.robot, policy.model.config, rules.layouts[0]
    views = zip(robot.cameras, layout.images, strict=True)
    scale, steps = rules.default.guidance, rules.default.num_flow_steps
    facts = {
        "robot": robot.name,
        "cameras": ", ".join(f"{c} ({k})" for c, k in views),
        "state": f"{_dimensions(robot.state)} ({', '.join(layout.state)})",
        "actions": _dimensions(robot.actions),
        "horizon": f"{config.action_horizon} actions, of which {spec.execute_steps} are executed",
        "normalisation": "quantiles" if spec.quantile else "z-scores",
        "guidance": f"{scale:g} from {policy.reference.kind}, requests: {_range(rules.guidance)}",
        "flow steps": f"{steps}, requests: {_range(rules.num_flow_steps)}",
        "seed": "of a request, or of its connection" if rules.seeds else "of the connection",
        "real time": "requests may continue a chunk" if rules.horizon else "no",
        "rows": f"{policy.rows} per call",
        "device": jax.devices()[0].device_kind,
    }
    return "".join(f"  {name:<14}{value}\n" for name, value in facts.items())


def _dimensions(dimensions: Sequence[Dimension]) -> str:
    return f"{len(dimensions)}: {', '.join(d.name for d in dimensions)}"


def _range(limits: tuple[float, float]) -> str:
    return "the same" if limits[0] == limits[1] else f"{limits[0]:g} to {limits[1]:g}"
