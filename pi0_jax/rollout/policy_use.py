"""How a policy was used in rollouts: what a run says about its own speed."""

from dataclasses import dataclass

USE = ("seconds_policy", "observations_per_call", "padding_share")
"""Names in metrics.jsonl; their values depend on the clock."""


@dataclass
class PolicyUse:
    """Counts that calls of a policy add to.

    Attributes:
        seconds: time that the policy took; simulators run meanwhile.
        calls: times that it was asked for chunks of all episodes that were ready.
        observations: sum of these episodes.
        rows: rows that the network computed for them, padding included; 0 for a remote policy,
            of which it is not known.
    """

    seconds: float = 0.0
    calls: int = 0
    observations: int = 0
    rows: int = 0

    def add(self, seconds: float, observations: int, rows_per_call: int) -> None:
        """Counts one call.

        Args:
            seconds: its duration.
            observations: number of its observations.
            rows_per_call: rows of one call of the network, `Policy.rows`; 0 if not known.
        """
        self.seconds += seconds
        self.calls += 1
        self.observations += observations
        # Rounded up: the last call of the network is padded.
        self.rows += -(-observations // rows_per_call) * rows_per_call if rows_per_call else 0

    def metrics(self) -> dict[str, float]:
        """Values for metrics.jsonl; none without a call."""
        if not self.calls:
            return {}
        values = [self.seconds, self.observations / self.calls]
        if self.rows:
            values.append(1 - self.observations / self.rows)
        return dict(zip(USE, values, strict=False))
