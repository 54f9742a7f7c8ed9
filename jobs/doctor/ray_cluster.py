"""What is wrong with a Ray cluster, seen from within: its hosts' versions, stores, resources."""

import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.errors import ClusterError, NotFoundError
from cluster.ray.ask_hosts import NodeAnswer, ask_every_node
from cluster.stores.open_store import open_store
from cluster.stores.probe import probe_store
from cluster.stores.store import Store
from cluster.workers.runner import Resources
from jobs.doctor.machine import (
    SHIPPED,
    Finding,
    examine_store,
    find_imports,
    find_version,
    has_travelled,
)
from jobs.errors import JobError
from jobs.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Look:
    """What every host is to look at: "" and () for nothing."""

    output: str = ""
    mark: str = ""
    candidates: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a process saw around it.

    Attributes:
        host: name of the host.
        python: version of Python.
        ray: version of Ray; "" where it is not installed.
        metafuse: version of metafuse, or that our packages came with the job.
        imports: place that our packages are imported from.
        store: why this host cannot use the output; "" if it can.
        sources: why this host cannot read candidates or data; "" if it can.
    """

    host: str
    python: str
    ray: str
    metafuse: str
    imports: str
    store: str = ""
    sources: str = ""


def look_around(look: Look) -> HostFacts:
    """The facts of the process that calls this."""
    is_shipped = has_travelled()
    return HostFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        ray=find_version("ray"),
        metafuse=SHIPPED if is_shipped else find_version("metafuse") or "not installed",
        imports=SHIPPED if is_shipped else ", ".join(find_imports()),
        store=_try_output(look) if look.output else "",
        sources=_try_sources(look),
    )


def examine_cluster(
    address: str, output: str | None, recipe: Recipe | None
) -> tuple[list[Finding], HostFacts]:
    """Ask every host of the cluster this process can join; also gives the facts of this process.

    Raises:
        RunnerError: the cluster does not answer.
    """
    output = output or (recipe.output if recipe else "")
    findings = examine_store(output) if output else []
    is_writable = bool(output) and findings[0].is_good
    look = Look(
        output=output if is_writable else "",
        mark=f"doctor-{uuid.uuid4().hex}",
        candidates=recipe.candidates if recipe else (),
        data=recipe.task.places if recipe else (),
    )
    with _mark(look):
        answers = ask_every_node(address, look_around, look)
    driver = look_around(Look())
    findings += [_hosts(answers), *compare_versions(driver, answers)]
    if is_writable:
        findings.append(_access("workers' output", output, answers, "store"))
    if recipe is not None:
        findings.append(_access("workers' sources", "candidates and data", answers, "sources"))
        findings += check_resources(recipe, answers)
    return findings, driver


@contextmanager
def _mark(look: Look) -> Iterator[None]:
    """An object in the output, by which a host sees that it is the same place there."""
    if not look.output:
        yield
        return
    store = open_store(look.output)
    store.put(look.mark, b"left by metafuse doctor")
    try:
        yield
    finally:
        store.delete(look.mark)


def compare_versions(here: HostFacts, answers: Sequence[NodeAnswer[HostFacts]]) -> list[Finding]:
    """The driver's versions against those of every host that answered."""
    findings = []
    for name in ("ray", "python", "metafuse", "imports"):
        mine = getattr(here, name)
        others: dict[str, list[str]] = {}
        for answer in answers:
            if answer.value is not None and getattr(answer.value, name) != mine:
                others.setdefault(getattr(answer.value, name), []).append(answer.value.host)
        parts = ", ".join(f"{found} on {' '.join(hosts)}" for found, hosts in others.items())
        text = f"driver {mine}, hosts {parts}" if others else f"{mine} everywhere"
        # Hosts may keep the same version in another folder.
        findings.append(Finding(f"{name} of the hosts", not others or name == "imports", text))
    return findings


def check_resources(recipe: Recipe, answers: Sequence[NodeAnswer[HostFacts]]) -> list[Finding]:
    """Whether some host has what one evaluation, and one merge worker, ask for.

    Ray would let a task that asks for more wait for ever.
    """
    return [
        _fit("evaluation", recipe.resources.evaluate.of_one, answers),
        _fit("merge worker", Resources(), answers),
    ]


def _fit(what: str, one: Resources, answers: Sequence[NodeAnswer[HostFacts]]) -> Finding:
    hosts = [answer.node.resources for answer in answers]
    count = sum(one.fit(host) for host in hosts)
    if count:
        return Finding(
            f"resources of one {what}",
            is_good=True,
            text=f"{one.describe()}: {count} hosts have it",
        )
    text = f"no host has {one.describe_lack(hosts)}. It would wait for ever"
    return Finding(f"resources of one {what}", is_good=False, text=text)


def _hosts(answers: Sequence[NodeAnswer[HostFacts]]) -> Finding:
    silent = [f"{answer.node.host}: {answer.problem}" for answer in answers if answer.value is None]
    workers = sum(answer.node.resources.get("CPU", 0) > 0 for answer in answers)
    text = f"{len(answers)} alive, {workers} of them with CPUs for work"
    if silent:
        text = f"{len(silent)} of {len(answers)} did not answer: " + "; ".join(silent)
    elif not workers:
        text += ": nothing can run"
    return Finding("hosts", not silent and workers > 0, text)


def _access(what: str, where: str, answers: Sequence[NodeAnswer[HostFacts]], name: str) -> Finding:
    bad = [
        f"{a.node.host}: {text}" for a in answers if a.value and (text := getattr(a.value, name))
    ]
    if bad:
        return Finding(
            what, is_good=False, text=f"{where} from {len(bad)} hosts: " + "; ".join(bad)
        )
    return Finding(what, is_good=True, text=f"{where} can be used from every host that answered")


def _try_output(look: Look) -> str:
    try:
        store = open_store(look.output)
        _read_mark(store, look.mark)
        return probe_store(store).problem
    except ClusterError as error:
        return str(error)


def _read_mark(store: Store, mark: str) -> None:
    try:
        store.head(mark)
    except NotFoundError:
        raise NotFoundError(
            f"{store.uri} is not the same place here as where the driver is"
        ) from None


def _try_sources(look: Look) -> str:
    from jobs.candidates.find import find_places
    from jobs.tasks.data_files import find_data

    problems = []
    try:
        if look.candidates and not find_places(look.candidates):
            problems.append(f"no candidate is seen at {', '.join(look.candidates)}")
    except (ClusterError, JobError) as error:
        problems.append(str(error))
    try:
        if look.data:
            find_data(look.data)
    except (ClusterError, JobError) as error:
        problems.append(str(error))
    return "; ".join(problems)
