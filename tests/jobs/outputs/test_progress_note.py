"""progress.json: for readers only, cheap, and harmless whichever process writes it and when."""

import json
import threading
import time
import uuid

import pytest

from cluster.errors import AccessError
from cluster.stores.memory import MemoryStore
from fusion.canonical import to_json
from jobs.console.figures import Figures, Steps
from jobs.operate.status import look
from jobs.outputs.keys import PROGRESS_KEY
from jobs.outputs.lease import held_lease
from jobs.outputs.progress_note import kept_progress, read_progress
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import Outcome, write_outcome
from tests.support.light_runs import begin
from tests.support.waiting import LONG, wait_until

RUN = "nightly-2026-11-21"
QUIET = Steps(lambda *_: None)
FIGURES = Figures(3 << 20, 9 << 20, num_retried=1, unit="00001-00003", seconds=2.5, worker="h1/7")


class Refusing:
    """A store to which this driver may not write its progress."""

    def __init__(self, store):
        self._store, self.uri, self.asked = store, store.uri, threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, content, **options):
        if key == PROGRESS_KEY:
            self.asked.set()
            raise AccessError("may not")
        return self._store.put(key, content, **options)


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def written(store):
    return wait_until(lambda: read_progress(store))


def test_a_driver_says_how_far_it_is_beside_its_lease(store):
    heard = []
    with (
        held_lease(store, RUN) as lease,
        kept_progress(
            store, lease, RUN, Steps(lambda *e: heard.append(e)), every_seconds=0.02
        ) as say,
    ):
        say.step("merge fused")(3, 9, FIGURES)
        said = written(store)
        assert (said.run, said.owner, said.step) == (RUN, lease.owner, "merge fused")
        assert (said.done, said.total, said.num_retried) == (3, 9, 1)
        assert (said.workers, said.hosts, said.slowest.unit) == (("h1/7",), ("h1",), "00001-00003")
    assert heard == [("merge fused", 3, 9, FIGURES)]
    assert [entry.key for entry in store.list("runs/")] == []


def test_nothing_is_written_before_its_time_after_the_end_or_without_the_lease(store):
    with held_lease(store, RUN) as lease:
        with kept_progress(store, lease, RUN, QUIET) as say:
            say.step("merge fused")(3, 9, FIGURES)
        lease._lost.set()
        with kept_progress(store, lease, RUN, QUIET, every_seconds=0.01) as say:
            say.step("merge fused")(3, 9, FIGURES)
            time.sleep(0.1)
    assert read_progress(store) is None


def test_a_store_that_refuses_it_fails_nothing(store):
    refusing = Refusing(store)
    with (
        held_lease(refusing, RUN) as lease,
        kept_progress(refusing, lease, RUN, QUIET, every_seconds=0.01) as say,
    ):
        say.step("merge fused")(3, 9, FIGURES)
        assert refusing.asked.wait(LONG)
        say.step("merge fused")(4, 9, FIGURES)
    assert read_progress(store) is None


def alive(store, beats=[0]):  # noqa: B006  # counts over all calls
    """What is seen while the holder's heartbeat advances."""

    def beat(_):
        holder = json.loads(store.read("lease.json"))
        beats[0] += 1
        store.put("lease.json", json.dumps({**holder, "beat": 1000 + beats[0]}).encode())

    return look(store, None, watch_seconds=7, sleep=beat)


def test_status_believes_the_holder_of_the_lease_and_nobody_else(store):
    begin(store, "2026-11-21")
    with (
        held_lease(store, RUN) as lease,
        kept_progress(store, lease, RUN, QUIET, every_seconds=0.01) as say,
    ):
        say.step("merge fused")(3, 9, FIGURES)
        said = written(store)
    assert look(store, None, watch_seconds=0).progress is None
    with held_lease(store, RUN) as lease:
        assert alive(store).progress is None  # a driver before this one said it
        mine = {**json.loads(to_json(said)), "owner": lease.owner}
        store.put(PROGRESS_KEY, json.dumps(mine).encode())
        assert alive(store).progress.done == 3
        store.put(PROGRESS_KEY, json.dumps({**mine, "run": "another"}).encode())
        assert alive(store).progress is None
        store.put(PROGRESS_KEY, b'{"run": "nightly')
        assert alive(store).progress is None
        store.put(PROGRESS_KEY, json.dumps(mine).encode())
        write_outcome(RunFolder(store, RUN), Outcome("too_few", "", 13))
        assert alive(store).progress is None
