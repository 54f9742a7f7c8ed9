import json
import os
import socket
import subprocess
import sys

import pytest

from cluster.stores.memory import MemoryStore
from cluster.workers.patience import Patience
from fusion.errors import ManifestError
from jobs.errors import LockedError
from jobs.outputs.lease import Holder, held_lease, process_birth
from tests.support.waiting import LONG, wait_until

QUICK = Patience(lease_beat=0.02)


class Time:
    """A clock that moves when `sleep` is called; `on_sleep` is what happens meanwhile."""

    def __init__(self, on_sleep=lambda: None):
        self.now = 0.0
        self.on_sleep = on_sleep

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()

    def clock(self):
        return self.now


def put(store, **changes):
    values = {"owner": "x", "run": "r-1", "host": "elsewhere", "pid": 1, "born": "then", "beat": 0,
              "released": False, **changes}  # fmt: skip
    store.put("lease.json", json.dumps(values).encode())


def test_a_free_lease_is_taken_and_given_back(request):
    store = MemoryStore(f"memory://{request.node.name}")
    with held_lease(store, "r-1") as lease:
        lease.check()
    with held_lease(store, "r-2"):
        pass
    assert json.loads(store.read("lease.json"))["released"] is True


def test_a_live_holder_is_seen_by_its_heartbeat(request):
    store = MemoryStore(f"memory://{request.node.name}")
    put(store)
    time = Time(on_sleep=lambda: put(store, beat=int(time.now)))
    with (
        pytest.raises(LockedError, match="run r-1 is alive on host elsewhere"),
        held_lease(store, "r-1", sleep=time.sleep, clock=time.clock),
    ):
        pass


def test_a_silent_holder_is_replaced_after_fifteen_seconds(request):
    store = MemoryStore(f"memory://{request.node.name}")
    put(store)
    time = Time()
    with held_lease(store, "r-1", sleep=time.sleep, clock=time.clock):
        assert 15 <= time.now <= 17


def test_a_watcher_that_slept_itself_does_not_take_a_live_lease_for_a_silent_one(request):
    store = MemoryStore(f"memory://{request.node.name}")
    put(store)
    time = Time(on_sleep=lambda: put(store, beat=5))
    with (
        pytest.raises(LockedError, match="advanced while we watched"),
        held_lease(store, "r-1", sleep=lambda _: time.sleep(40), clock=time.clock),
    ):
        pass


def test_the_epoch_counts_the_holders(request):
    store = MemoryStore(f"memory://{request.node.name}")
    for epoch in (1, 2, 3):
        with held_lease(store, "r-1"):
            assert json.loads(store.read("lease.json"))["epoch"] == epoch


@pytest.mark.parametrize(
    ("place", "is_seen"), [("here", True), ("another container", False), ("", False)]
)
def test_a_holder_is_replaced_at_once_only_where_its_process_would_be_seen(request, place, is_seen):
    store = MemoryStore(f"memory://{request.node.name}")
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    here = process_birth(os.getpid()).partition("@")[2]
    born = f"7@{here if place == 'here' else place}"
    put(store, host=socket.gethostname(), pid=int(ended.stdout), born=born)
    time = Time()
    with held_lease(store, "r-1", sleep=time.sleep, clock=time.clock):
        assert (time.now == 0) == is_seen


def test_a_lease_that_was_taken_over_stops_its_driver(request):
    store = MemoryStore(f"memory://{request.node.name}")
    with held_lease(store, "r-1", patience=QUICK) as lease:
        put(store, owner="thief")
        assert lease._lost.wait(LONG)
        with pytest.raises(LockedError, match="taken over"):
            lease.check()
    assert json.loads(store.read("lease.json"))["owner"] == "thief"


def test_the_heartbeat_advances(request):
    store = MemoryStore(f"memory://{request.node.name}")
    with held_lease(store, "r-1", patience=QUICK):
        wait_until(lambda: json.loads(store.read("lease.json"))["beat"] >= 3)
    assert Holder(**json.loads(store.read("lease.json"))).released


def test_what_a_newer_release_says_of_a_holder_is_passed_over(request):
    store = MemoryStore(f"memory://{request.node.name}")
    put(store, released=True, mood="good", rooms={"a": [1]})
    with held_lease(store, "r-2") as lease:
        lease.confirm()
    assert json.loads(store.read("lease.json"))["run"] == "r-2"


JUNK = {
    "empty": b"",
    "junk": b"\x00\xff junk",
    "list": b"[1]",
    "null": b"null",
    "null fields": json.dumps(dict.fromkeys(["owner", "run", "host", "pid", "born"])).encode(),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "a number of 5,000 digits": b'{"pid": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_a_lease_that_is_none_is_named_with_the_way_out_and_left_alone(content, request):
    store = MemoryStore(f"memory://{request.node.name}")
    store.put("lease.json", content)
    with (
        pytest.raises(ManifestError, match=r"lease\.json is damaged") as raised,
        held_lease(store, "r"),
    ):
        pass
    assert "remove lease.json" in raised.value.hint
    assert store.read("lease.json") == content


def test_a_driver_whose_lease_was_overwritten_with_junk_has_lost_it(request):
    store = MemoryStore(f"memory://{request.node.name}")
    with held_lease(store, "r-1", patience=QUICK) as lease:
        store.put("lease.json", b"")
        with pytest.raises(LockedError):
            lease.confirm()
