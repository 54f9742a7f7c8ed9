"""How long to wait for things and how often to try them, as one value that callers pass on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, and counts of tries. The defaults are those of the product.

    Attributes:
        tries: tries of one item of a pool before the run ends with an error that names the item.
        shortest: deadline of a short item, in seconds.
        longest: deadline of an item while fewer than `samples` items have ended, in seconds.
        factor: multiple of the usual duration that an item may take.
        samples: items that must have ended before a usual duration is known.
        beat: seconds between two heartbeats of a worker or a node.
        silent: seconds without a heartbeat after which other workers do a worker's items.
        lost: seconds without a heartbeat after which a worker is replaced.
        start: seconds without any worker that answers, after which the run ends.
        first_beat: seconds for the first heartbeat of a node, the start of a process included.
        agree: seconds after the first worker has started in which others are asked for their
            arithmetic.
        straggler: multiple of the usual duration after which a free lane elsewhere tries an item as
            well.
        stillborn: workers that may die on one node before they start.
        poll: seconds between two looks at what has arrived.
        look: seconds between two looks at which nodes there are.
        slept: a driver that was stopped for so many seconds blames no worker for that time.
        job_poll: seconds between two questions for the state of a submitted job.
        job_outage: seconds that a cluster may be away while a driver waits for a job.
        outage_pause: seconds between two tries of a unit whose store is away.
        lease_beat: seconds between two heartbeats of a lease.
        lease_silent: seconds without a heartbeat after which another driver takes over a lease.
        lease_poll: seconds between two looks at a lease that another driver holds.
        note: seconds between two progress notes of a run.
        hook_try: seconds to wait for one answer of a webhook.
        hook_pause: seconds between two tries of a webhook.
        hook_limit: seconds for all tries of a webhook together.
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
