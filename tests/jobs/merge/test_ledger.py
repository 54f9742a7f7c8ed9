"""Which units count as done, whatever two drivers, dying workers and a storage in between do."""

import json
import uuid
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cluster.errors import UploadGoneError
from cluster.stores.memory import MemoryStore
from fusion.canonical import to_json
from fusion.plans.layout import plan_merge
from jobs.merge.ledger import Ledger, PlannedUnits, SourceRead, UnitRecord
from tests.support.hand_made_plans import average

PLAN = plan_merge(average(), shard_bytes=100, unit_bytes=200)
SHARDS = range(len(PLAN.shards))
UNITS = {(unit.shard, unit.number): unit for unit in PLAN.units}
SHARD = st.sampled_from(SHARDS)
UNIT = st.sampled_from(list(UNITS))
DRIVER = st.sampled_from("ab")
HOW = st.sampled_from(["whole", "whole", "dies", "of another size", "of another upload"])


class LedgerMachine(RuleBasedStateMachine):
    """Two drivers over one store; the model knows what was written where, and by which upload.

    A unit is done if its record names the upload that the shard's note names, describes the unit
    of the plan, and names the part that is there.
    """

    @initialize()
    def begin(self):
        self.store = MemoryStore(f"memory://{uuid.uuid4().hex}")
        self.ledger = Ledger(self.store, "ledger")
        self.noted = {}  # shard: its upload by the note
        self.open = set()  # uploads
        self.parts = {}  # (upload, number): etag
        self.records = {}  # (shard, number): (upload, etag, whether it describes the unit)
        self.objects = {}  # shard: upload that it was completed from
        self.seen = dict.fromkeys("ab")
        self.look("a")
        self.look("b")

    def done(self, shard):
        upload = self.noted[shard]
        return {
            number
            for (of, number), (named, etag, is_right) in self.records.items()
            if of == shard
            and is_right
            and named == upload
            and (upload not in self.open or self.parts.get((upload, number)) == etag)
        }

    def numbers(self, shard):
        return {number for of, number in UNITS if of == shard}

    def is_whole(self, shard):
        upload = self.noted.get(shard)
        return (
            upload is not None
            and upload not in self.open
            and self.objects.get(shard) is not None
            and self.done(shard) == self.numbers(shard)
        )

    @rule(driver=DRIVER)
    def look(self, driver):
        lost = {s for s in SHARDS if self.noted.get(s) not in self.open and not self.is_whole(s)}
        states = self.ledger.find_shards(PLAN, self.store, "model")
        for shard, state in enumerate(states):
            if shard in lost:
                assert state.upload != self.noted.get(shard)
                assert state.upload not in self.open
                self.noted[shard] = state.upload
                self.open.add(state.upload)
            assert state.upload == self.noted[shard]
            assert state.is_complete == self.is_whole(shard)
            assert set(state.records) == self.done(shard)
        self.seen[driver] = states

    @rule(driver=DRIVER, place=UNIT, how=HOW)
    def work_and_look(self, driver, place, how):
        self.work(driver, place, how)
        self.look(driver)

    @rule(driver=DRIVER, place=UNIT, how=HOW)
    def work(self, driver, place, how):
        """A worker writes a part and its record, dies in between, or notes another unit."""
        unit, (shard, number) = UNITS[place], place
        upload_id = self.seen[driver][shard].upload
        key, size = f"model/{PLAN.shards[shard].name}", PLAN.shards[shard].size
        upload = self.store.resume_upload(key, upload_id, size=size)
        if upload_id not in self.open:
            with pytest.raises(UploadGoneError):
                upload.start_part(number, offset=unit.start, size=1, with_sha256=False)
            return
        content = bytes([65 + number]) * (unit.end - unit.start)
        writer = upload.start_part(number, offset=unit.start, size=len(content), with_sha256=False)
        writer.append(memoryview(content))
        part = writer.finish()
        self.parts[upload_id, number] = part.etag
        if how == "dies":
            return
        record = UnitRecord(
            unit=unit.id, upload=upload_id, number=number, offset=part.offset, size=part.size,
            etag=part.etag, crc64nvme=part.crc64nvme, sha256="", read_bytes=0, seconds=1.0,
            peak_bytes=0, largest=0.0, worker=f"host/{driver}",
        )  # fmt: skip
        if how == "of another size":
            record = replace(record, size=part.size + 1)
        if how == "of another upload":
            record = replace(record, upload="another")
        self.ledger.write(record, upload=upload)
        self.records[place] = (upload_id, part.etag, how == "whole")

    @rule(driver=DRIVER, place=UNIT)
    def wake(self, driver, place):
        """A worker that slept notes a unit once more, of an upload that may be long over."""
        shard, number = place
        upload_id = self.seen[driver][shard].upload
        record = UnitRecord(
            unit=UNITS[place].id, upload=upload_id, number=number, offset=0, size=1, etag="old",
            crc64nvme="", sha256="", read_bytes=0, seconds=1.0, peak_bytes=0, largest=0.0,
            worker="host/old",
        )  # fmt: skip
        upload = self.store.resume_upload("model/x", upload_id, size=1)
        self.ledger.write(record, upload=upload)
        if place not in self.records or upload_id in self.open:
            self.records[place] = (upload_id, "old", False)

    @precondition(lambda self: self.records)
    @rule(shard=SHARD)
    def lose_upload(self, shard):
        """Another process aborts the upload, or its store forgets it after a week."""
        upload_id = self.noted[shard]
        self.store.resume_upload("model/x", upload_id, size=1).abort()
        self.open.discard(upload_id)

    @rule(place=UNIT, content=st.sampled_from([b"", b"{", b"[]", b"{}"]))
    def damage_record(self, place, content):
        self.store.put(f"ledger/{UNITS[place].id}.json", content)
        self.records[place] = ("", "", False)

    @rule(shard=SHARD)
    def empty_note(self, shard):
        """A note that a power failure left empty: the id of the upload is lost."""
        self.store.put(f"ledger/{shard + 1:05d}.upload", b"")
        self.noted.pop(shard)
        self.look("a")

    @rule(driver=DRIVER, shard=SHARD)
    def complete(self, driver, shard):
        state = self.seen[driver][shard]
        if set(state.records) != self.numbers(shard) or state.upload not in self.open:
            return
        key, size = f"model/{PLAN.shards[shard].name}", PLAN.shards[shard].size
        upload = self.store.resume_upload(key, state.upload, size=size)
        parts = [state.records[number].part for number in sorted(state.records)]
        is_there = all(self.parts[state.upload, part.number] == part.etag for part in parts)
        if not is_there:  # written again since: its complete takes what it sees then
            with pytest.raises(UploadGoneError):
                upload.complete(parts)
            return
        upload.complete(parts)
        self.open.discard(state.upload)
        self.objects[shard] = state.upload

    def teardown(self):
        """One driver that nothing disturbs brings every shard to its end."""
        if not getattr(self, "noted", None):
            return
        self.look("a")
        for shard in SHARDS:
            if not self.seen["a"][shard].is_complete:
                for number in self.numbers(shard) - set(self.seen["a"][shard].records):
                    self.work("a", (shard, number), "whole")
        self.look("a")
        for shard in SHARDS:
            self.complete("a", shard)
        self.look("b")
        assert all(state.is_complete for state in self.seen["b"])


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=50)


def test_planned_units_know_their_bytes_by_name():
    planned = PlannedUnits(PLAN.unit_bytes, tuple(shard.size for shard in PLAN.shards))
    assert planned.num_units == len(PLAN.units)
    assert {unit.id: planned.bytes_of(unit.id) for unit in PLAN.units} == {
        unit.id: unit.end - unit.start for unit in PLAN.units
    }
    for strange in ("00003-00001", "00001-00009", "x-1", "00001"):
        assert planned.bytes_of(strange) == 0


def test_what_is_planned_is_announced_once_and_mended_if_it_was_left_empty():
    store = MemoryStore(f"memory://{uuid.uuid4().hex}")
    ledger = Ledger(store, "ledger")
    ledger.announce(PLAN)
    told = store.read("ledger/units.plan")
    etag = store.head("ledger/units.plan").etag
    ledger.announce(PLAN)
    assert store.head("ledger/units.plan").etag == etag
    store.put("ledger/units.plan", b"")
    ledger.announce(PLAN)
    assert store.read("ledger/units.plan") == told


def test_what_is_forgotten_is_computed_anew():
    store = MemoryStore(f"memory://{uuid.uuid4().hex}")
    ledger = Ledger(store, "ledger")
    before = [state.upload for state in ledger.find_shards(PLAN, store, "model")]
    ledger.forget()
    after = [state.upload for state in ledger.find_shards(PLAN, store, "model")]
    assert set(before).isdisjoint(after)
    assert Counter(entry.key for entry in store.list("ledger/")).keys() == {
        "ledger/00001.upload", "ledger/00002.upload",
    }  # fmt: skip


def test_ranges_that_an_earlier_release_noted_have_crcs_of_its_kind():
    store = MemoryStore(f"memory://{uuid.uuid4().hex}")
    figures = {"read_bytes": 9, "seconds": 0.5, "peak_bytes": 1, "largest": 1.0, "worker": "h/1"}
    record = UnitRecord("00001-00001", "u", 1, 0, 9, "e", "0" * 16, "", **figures)
    stored = json.loads(to_json(record))
    read = {"checkpoint": 0, "shard": "a", "start": 8, "size": 9, "crc64nvme": "ab" * 8}
    store.put("ledger/00001-00001.json", json.dumps({**stored, "reads": [read]}).encode())
    expected = SourceRead(0, "a", 8, 9, "crc64nvme", "ab" * 8)
    assert Ledger(store, "ledger").read(0) == (replace(record, reads=(expected,)),)
