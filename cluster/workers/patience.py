"""How long things are waited for and how often they are tried: one value, handed to who waits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, and counts of tries. The defaults are those of the product.

    Attributes:
        tries: of one item of a pool, before the run ends with its name.
        shortest: deadline of a short item.
        longest: deadline of an item while fewer than `samples` have ended.
        factor: times the usual duration that an item may take.
        samples: items that must have ended before there is a usual duration.
        beat: between two heartbeats that a worker or a node is asked for.
        silent: without a heartbeat, before a worker's items are done elsewhere.
        lost: without a heartbeat, before a worker is replaced.
        start: without any worker that answers, before the run ends.
        first_beat: for the first heartbeat of a node, which has the start of a process in it.
        agree: after the first worker has started, for others whose arithmetic is asked too.
        straggler: times the usual duration after which a free lane elsewhere tries it as well.
        stillborn: workers that may die on one node before they start.
        poll: between two looks at what has arrived.
        look: between two looks at which nodes there are.
        slept: a driver that was stopped for so long blames no worker for that time.
        job_poll: between two questions how a submitted job is.
        job_outage: that a cluster may be away while a job is waited for.
        outage_pause: between two tries of a unit whose store is away.
        lease_beat: between two heartbeats of a lease.
        lease_silent: without a heartbeat, before a lease is taken over.
        lease_poll: between two looks at a lease that another holds.
        note: between two notes of how far a run is.
        hook_try: for one answer of a webhook.
        hook_pause: between two tries of a webhook.
        hook_limit: for a webhook in all.
    """

    tries: int = 4
    shortest: float = 30.0
    longest: float = 3600.0
    factor: float = 5.0
    samples: int = 5
    beat: float = 3.0
    silent: float = 18.0
    lost: float = 75.0
    start: float = 120.0
    first_beat: float = 40.0
    agree: float = 5.0
    straggler: float = 2.0
    stillborn: int = 3
    poll: float = 1.0
    look: float = 5.0
    slept: float = 5.0
    job_poll: float = 1.0
    # A head that is restarted by its supervisor is back within a minute.
    job_outage: float = 120.0
    # The retries of a request are over within two seconds; a server takes longer to come back.
    outage_pause: float = 3.0
    lease_beat: float = 5.0
    lease_silent: float = 15.0
    lease_poll: float = 1.0
    note: float = 10.0
    hook_try: float = 4.0
    hook_pause: float = 0.5
    hook_limit: float = 10.0


PATIENCE = Patience()
