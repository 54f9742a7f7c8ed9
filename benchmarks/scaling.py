"""A merge over 1, 2 and 3 hosts whose cables have the same rate, and how soon it begins.

    sudo python benchmarks/scaling.py [--units 12] [--rate 200] [--rounds 3]

Needs root: the hosts are namespaces of this machine (tests/hosts), and so is the SeaweedFS beside
them, whose own cable is not limited. Every merge is submitted from outside over the Jobs API; the
candidates have their scores already. Numbers of hosts take turns. Writes
benchmarks/scaling.{json,md,svg}.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
HOSTS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge as storage saw it.

    Attributes:
        hosts: that did units.
        seconds: from the first read of the first unit to the record of the last.
        planned: seconds from the submission until the merge was planned.
        first: seconds from the submission until the first unit was recorded.
        used: bytes that went over the workers' cables, headers included.
    """

    hosts: int
    seconds: float
    planned: float
    first: float
    used: int


def measure(machines: object, run: object, hosts: int, rate: str) -> Merge:
    """Submit a merge on a number of hosts and wait for its end."""
    from tests.hosts.machines import Machines
    from tests.hosts.stage import Run

    assert isinstance(machines, Machines)
    assert isinstance(run, Run)
    run.rewind()
    run.write_recipe(workers=hosts)
    machines.shape(rate)
    began = time.monotonic()
    run.start()
    run.wait_planned()
    planned, before = time.monotonic(), sum(sum(machines.traffic(h)) for h in machines.workers)
    run.wait_units(run.units, 600)
    used = sum(sum(machines.traffic(h)) for h in machines.workers) - before
    machines.shape("off")
    assert run.wait_end() == 0, run.log()
    records = run.records()
    first_read = min(run.seen[record.unit] - record.seconds for record in records)
    return Merge(
        hosts=len({record.worker.partition("/")[0] for record in records}),
        seconds=max(run.seen.values()) - first_read,
        planned=planned - began,
        first=min(run.seen.values()) - began,
        used=used,
    )


def measure_all(units: int, rate: int, rounds: int) -> tuple[list[Merge], list[Merge]]:
    """(merges over slow cables, merges over cables without a limit)."""
    from tests.hosts.machines import Machines, inside_network
    from tests.hosts.stage import Run, upload_inputs

    folder = Path("/var/tmp") / f"metafuse-scaling-{os.getpid()}"
    folder.mkdir(mode=0o700)
    machines = Machines(folder, num_workers=max(HOSTS))
    slow, free = [], []
    try:
        machines.start()
        os.environ.update(machines.storage)
        with inside_network(machines.hub):
            upload_inputs(folder, num_units=units)
            run = Run(machines, folder, "nightly", num_units=units)
            measure(machines, run, max(HOSTS), "off")  # scores the candidates
            for number in range(rounds):
                free.append(measure(machines, run, max(HOSTS), "off"))
                print(number, "off", free[-1], flush=True)
                for hosts in HOSTS:
                    slow.append(measure(machines, run, hosts, f"{rate}mbit"))
                    print(number, hosts, slow[-1], flush=True)
                    assert slow[-1].hosts == hosts
            run.stop()
    finally:
        machines.stop()
        shutil.rmtree(folder)
    return slow, free


def describe(slow: list[Merge], free: list[Merge], units: int, rate: int) -> str:
    """The figures as text."""
    alone = median(slow, 1)
    lines = [
        (
            f"A merge of two checkpoints of {units} units of 64 MiB ({units * 2**26 / 1e9:.1f} GB "
            f"written, twice that read) from and to SeaweedFS, over hosts in namespaces with "
            f"a cable of {rate} Mbit/s each way; {os.cpu_count()} cores, in turns, median of "
            f"{len(free)}.\n"
        ),
        "| hosts | seconds | times one host | of linear | of the cables |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for hosts in HOSTS:
        seconds = median(slow, hosts)
        busy = statistics.median(m.used / (hosts * rate / 8 * 2e6 * m.seconds)
                                 for m in slow if m.hosts == hosts)  # fmt: skip
        lines.append(
            f"| {hosts} | {seconds:.1f} | {alone / seconds:.2f} | {alone / seconds / hosts:.0%} | "
            f"{busy:.0%} |"
        )
    planned = statistics.median(merge.planned for merge in free)
    first = statistics.median(merge.first for merge in free)
    lines.append(
        f"\nFrom `metafuse submit` until the merge is planned: {planned:.1f} s; until the first "
        f"unit is recorded: {first:.1f} s (scores known, cables without a limit).\n\n"
        "Seconds are from the first read to the last record. Of the cables: bytes sent and "
        "received by all workers, of what their cables carry both ways in that time."
    )
    return "\n".join(lines) + "\n"


def median(merges: list[Merge], hosts: int) -> float:
    """Seconds of the merges on a number of hosts."""
    return statistics.median(merge.seconds for merge in merges if merge.hosts == hosts)


def draw(slow: list[Merge], path: Path) -> None:
    """Speed over hosts, beside the line of the ideal."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "metafuse"
    from matplotlib import pyplot

    alone = median(slow, 1)
    figure, axis = pyplot.subplots(figsize=(4.6, 3.4))
    axis.plot(HOSTS, HOSTS, "--", color="#94a3b8", label="linear")
    axis.plot(HOSTS, [alone / median(slow, n) for n in HOSTS], "-", color="#0f766e", label="median")
    axis.plot(
        [m.hosts for m in slow], [alone / m.seconds for m in slow], "o", color="#0f766e", alpha=0.5,
        label="each merge",
    )  # fmt: skip
    axis.set_xlabel("worker hosts")
    axis.set_ylabel("speed, times one host")
    axis.set_xticks(HOSTS)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=12, help="divides well by 2, 4 and 6")
    parser.add_argument("--rate", type=int, default=200, help="Mbit/s of a cable")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    # Whoever ends this ends the hosts too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.path.insert(0, str(HERE.parent))
    slow, free = measure_all(wanted.units, wanted.rate, wanted.rounds)
    text = describe(slow, free, wanted.units, wanted.rate)
    print("\n" + text)
    (HERE / "scaling.md").write_text(text)
    content = {
        "units": wanted.units,
        "mbit": wanted.rate,
        "slow": [asdict(merge) for merge in slow],
        "free": [asdict(merge) for merge in free],
    }
    (HERE / "scaling.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    draw(slow, HERE / "scaling.svg")


if __name__ == "__main__":
    main()
