"""Hands for a piece of work: who does it, how many at a time, where they may be."""

from dataclasses import dataclass, field

from cluster.workers.runner import Resources, Runner


@dataclass(frozen=True, slots=True)
class Hands:
    """Workers as a step is given them.

    Attributes:
        runner: starts the workers.
        workers: number of workers at a time.
        resources: what one worker may use, and where it may run.
    """

    runner: Runner
    workers: int
    resources: Resources = field(default_factory=Resources)
