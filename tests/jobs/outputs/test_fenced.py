"""A fenced store asks before each write, its uploads too; what only reads asks nothing.

That it is a store like any other, the suite of all stores says: tests/cluster/stores/test_store.py.
"""

import inspect
import uuid

import pytest

from cluster.stores.memory import MemoryStore
from cluster.stores.store import Store, Upload
from jobs.errors import LockedError
from jobs.outputs.fenced import Fenced
from tests.support.stores import write

WRITES = {
    "put": lambda s: s.put("k", b"1"),
    "delete": lambda s: s.delete("there"),
    "start_upload": lambda s: s.start_upload("k", size=1, metadata={}),
}
UPLOAD_WRITES = {
    "start_part": lambda u: write(u, 1, b"1234", 0),
    "complete": lambda u: u.complete([]),
    "abort": lambda u: u.abort(),
}
READS = {
    "head": lambda s: s.head("there"),
    "find_crc": lambda s: s.find_crc("there"),
    "list": lambda s: list(s.list()),
    "read": lambda s: s.read("there"),
    "read_into": lambda s: s.read_into("there", memoryview(bytearray(1)), start=0),
    "open_reader": lambda s: s.open_reader("there").close(),
    "resume_upload": lambda s: s.resume_upload("big", "id", size=1),
    "list_uploads": lambda s: list(s.list_uploads()),
    "find_part_check": lambda s: s.find_part_check("there"),
}
UPLOAD_READS = {"is_open": lambda u: u.is_open(), "find_parts": lambda u: u.find_parts([])}


class Lost:
    """The guard of a driver that has lost its lease."""

    def confirm(self):
        raise LockedError("taken over", "")


@pytest.fixture
def bare():
    store = MemoryStore(f"memory://{uuid.uuid4().hex}")
    store.put("there", b"content")
    return store


@pytest.fixture
def upload(bare):
    return bare.start_upload("big", size=4, metadata={})


def look(bare):
    return {e.key: e.etag for e in bare.list()}, [u.id for u in bare.list_uploads()]


@pytest.mark.parametrize("verb", WRITES)
def test_who_lost_the_lease_writes_nothing(bare, verb):
    before = look(bare)
    with pytest.raises(LockedError):
        WRITES[verb](Fenced(bare, Lost()))
    assert look(bare) == before


class LostMeanwhile:
    """The guard of a driver that sleeps in an operation, and is taken over."""

    def __init__(self):
        self.num_asked = 0

    def confirm(self):
        self.num_asked += 1
        if self.num_asked > 1:
            raise LockedError("taken over", "")


def test_an_upload_that_was_started_asleep_is_not_left(bare):
    before = look(bare)
    with pytest.raises(LockedError):
        Fenced(bare, LostMeanwhile()).start_upload("k", size=1, metadata={})
    assert look(bare) == before


@pytest.mark.parametrize("verb", UPLOAD_WRITES)
def test_nor_does_an_upload_of_who_lost_it(bare, upload, verb):
    before = look(bare)
    with pytest.raises(LockedError):
        UPLOAD_WRITES[verb](Fenced(bare, Lost()).resume_upload("big", upload.id, size=4))
    assert look(bare) == before


@pytest.mark.parametrize("verb", READS)
def test_reading_asks_nothing(bare, verb):
    READS[verb](Fenced(bare, Lost()))


@pytest.mark.parametrize("verb", UPLOAD_READS)
def test_looking_at_an_upload_asks_nothing(bare, upload, verb):
    UPLOAD_READS[verb](Fenced(bare, Lost()).resume_upload("big", upload.id, size=4))


@pytest.mark.parametrize(
    ("protocol", "known"), [(Store, WRITES | READS), (Upload, UPLOAD_WRITES | UPLOAD_READS)]
)
def test_every_verb_is_known_to_write_or_to_read(protocol, known):
    verbs = {name for name, _ in inspect.getmembers(protocol, inspect.isfunction)}
    assert {name for name in verbs if not name.startswith("_")} == set(known)
