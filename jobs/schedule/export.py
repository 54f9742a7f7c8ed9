"""Units that start nights without a scheduler of ours kept alive: systemd, crontab, Kubernetes.

All of them call `metafuse schedule run --once`, which knows from its state what is due: a unit that
fires late, twice or out of turn starts nothing twice.
"""

from collections.abc import Callable, Mapping

from jobs.errors import UsageError
from jobs.schedule.systemd import crontab_units, systemd_units
from jobs.schedule.units import Unit, UnitKind, UnitRequest

UNUSUAL = "".join(chr(code) for code in range(32)) + "\x7f"


def export_units(kind: UnitKind, request: UnitRequest) -> tuple[Unit, ...]:
    """The files of one kind.

    Raises:
        UsageError: the schedule, a name or a path cannot be said there.
    """
    from jobs.schedule.kubernetes import kuberay_units, kubernetes_units

    makers: Mapping[UnitKind, Callable[[UnitRequest], tuple[Unit, ...]]] = {
        "kubernetes": kubernetes_units,
        "kuberay": kuberay_units,
        "systemd": systemd_units,
        "crontab": crontab_units,
    }
    for text in (str(request.recipe), request.output, request.address, request.image):
        if any(character in UNUSUAL for character in text):
            raise UsageError(f"{text!r} has control characters; nothing was written")
    return makers[kind](request)
