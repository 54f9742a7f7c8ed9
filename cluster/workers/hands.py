"""Hands for a piece of work: who does it, how many at a time, where they may be."""

from dataclasses import dataclass, field

from cluster.workers.runner import Resources, Runner


@dataclass(frozen=True, slots=True)
class Hands:
    """Workers as a step is given them.

    Attributes:
        runner: where they live.
        workers: how many at a time.
        resources: what one of them may use, and where it may be.
    """

    runner: Runner
    workers: int
    resources: Resources = field(default_factory=Resources)
