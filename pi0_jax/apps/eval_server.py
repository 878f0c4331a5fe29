"""An evaluation through a policy server: `pi0-eval --server ws://HOST:PORT`.

The simulators run here, the policy there. It gets the seeds of the noise with every observation, so
success and actions are those of the same policy in this process, where both have the same rows.
"""

import os
from typing import TYPE_CHECKING

from pi0_jax.apps import cli
from pi0_jax.apps.settings import EvalSettings, TrainSettings
from pi0_jax.env.suite import Suite, make_suite
from pi0_jax.errors import InputError
from pi0_jax.hosts import talk
from pi0_jax.optional import needed
from pi0_jax.plain_values import defaults
from pi0_jax.policy.robot_fit import check_robot
from pi0_jax.policy.spec import check_execute_steps
from pi0_jax.rollout.evaluate import evaluate_points
from pi0_jax.rollout.guidance import Guidance
from pi0_jax.rollout.record_videos import Acting, record_videos
from pi0_jax.run.folder import RunFolder
from pi0_jax.run.session import open_session
from pi0_jax.serve.settings import INSTALL, KEY_VARIABLE

if TYPE_CHECKING:
    from pi0_jax.serve.client import ServedPolicy


def through_server(arguments: cli.Arguments, settings: EvalSettings, method: str) -> RunFolder:
    """Evaluates the policy of a server; as `apps/evaluate.py: main`, without the report.

    Raises:
        InputError: no server of ours is there, or its policy does not fit tasks or settings.
        OSError: nothing answers there.
    """
    assert arguments.server is not None
    suite, evaluation = make_suite(settings.suite, settings.task), settings.eval
    suite.check_states(evaluation.seeds)
    key = os.environ.get(KEY_VARIABLE, "")
    # As many connections as rows: what is ready together is one call of the policy.
    with _client().open_policy_at(arguments.server, settings.rows, key) as served:
        steps = _checked(served, settings, suite)

        def acting(point: Guidance) -> "ServedPolicy":
            return served.guided(point.scale, evaluation.num_flow_steps, point.reference)

        for point in evaluation.sweep:
            acting(point)  # what the server does not allow shows before anything is written
        # Stored with the config, so that --resume refuses to mix results of two policies.
        stored = {"served_policy": served.facts["policy"], **arguments.config.to_dict()}
        parts = (settings, suite, stored, defaults(TrainSettings))
        with open_session(arguments.workdir, arguments.resume, *parts) as session:
            session.run.protocol["server"] = {k: v for k, v in served.facts.items() if k != "robot"}
            evaluate_points(session, evaluation, "eval", method, steps, acting, evaluation.sweep)
            shown = [Acting(method, evaluation.sweep[0])]
            talk.first(lambda: record_videos(session, shown, evaluation.videos))
    return session.run


def _checked(served: "ServedPolicy", settings: EvalSettings, suite: Suite) -> int:
    """Checks that the policy fits; returns how many actions of each chunk are executed."""
    check_robot(served.robot, suite.robot)
    if served.facts["rows"] != settings.rows:
        raise InputError(
            f"{served.uri}: its policy is called with {served.facts['rows']} rows, config.rows is "
            f"{settings.rows}, and results depend on it; start it with --rows {settings.rows}, or "
            f"set --config.rows={served.facts['rows']}"
        )
    steps = settings.eval.execute_steps or served.facts["execute_steps"]
    check_execute_steps("eval.execute_steps", steps, served.action_horizon)
    return steps


def _client():
    """The client, whose packages are an extra."""
    with needed("--server", INSTALL):
        from pi0_jax.serve import client
    return client
