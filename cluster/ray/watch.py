"""Which nodes of a Ray cluster have gone silent: a tiny actor on each answers heartbeats."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ray.nodes import ANSWER_SECONDS
from cluster.workers.patience import Patience


class WatchActor:
    """Holds nothing; that it answers is its answer."""

    def beat(self) -> None:
        """Says that the node is there."""


@dataclass
class _Watched:
    actor: Any
    beat: Any
    asked: float
    has_answered: bool = False


@dataclass
class Watch:
    """The actors by node. Times are the caller's, in seconds.

    A node counts as silent after `patience.silent` without an answer.
    """

    patience: Patience
    watched: dict[str, _Watched] = field(default_factory=dict)

    def keep(self, nodes: Collection[str], now: float) -> None:
        """Watch these nodes and no others."""
        for node in set(self.watched) - set(nodes):
            ray.kill(self.watched.pop(node).actor)
        for node in set(nodes) - set(self.watched):
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            remote = ray.remote(num_cpus=0, max_restarts=0)(WatchActor)
            actor = remote.options(scheduling_strategy=place).remote()
            self.watched[node] = _Watched(actor, actor.beat.remote(), now)

    def listen(self, now: float) -> None:
        """Take in the answers that have come, and ask again where it is time."""
        beats = {one.beat: node for node, one in self.watched.items() if one.beat is not None}
        if beats:
            ready, _ = ray.wait(list(beats), num_returns=len(beats), timeout=0)
            for reference in ready:
                self._hear(beats[reference])
        for one in self.watched.values():
            if one.beat is None and now - one.asked >= self.patience.beat:
                one.asked, one.beat = now, one.actor.beat.remote()

    def find_silent(self, now: float) -> frozenset[str]:
        """The nodes that owe an answer for too long."""
        return frozenset(
            node
            for node, one in self.watched.items()
            if one.beat is not None
            and now - one.asked
            > (self.patience.silent if one.has_answered else self.patience.first_beat)
        )

    def forgive(self, seconds: float) -> None:
        """The caller itself was away for so long: no node is to blame for that time."""
        for one in self.watched.values():
            one.asked += seconds

    def close(self) -> None:
        """End the actors."""
        self.keep((), 0.0)

    def _hear(self, node: str) -> None:
        one = self.watched[node]
        try:
            ray.get(one.beat, timeout=ANSWER_SECONDS)
        except (ActorUnavailableError, GetTimeoutError):
            # The connection broke, as it does to a silent node: what was asked is still owed.
            one.beat = one.actor.beat.remote()
        except RayError:
            # The actor is gone, perhaps with its node: `keep` makes another if the node lives.
            del self.watched[node]
        else:
            one.beat, one.has_answered = None, True
