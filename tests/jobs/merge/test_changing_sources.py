"""Sources that change under a merge: one clear error, or the pinned bytes; never a mixture."""

import json
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.stores.local.files import LocalReader
from cluster.stores.local.store import LocalStore
from cluster.stores.memory import MemoryStore
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import SourceChangedError
from jobs.exits import EXIT_STATUSES
from jobs.merge.fuse import Manner, Target, fuse
from tests.servers.fault_proxy import FaultProxy
from tests.support.checkpoints import write_files
from tests.support.merging import random_tensors, write_checkpoint
from tests.support.running import run_project

SHARD = "model.safetensors"
HOUR = 3600


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of two small checkpoints, and those of one that takes a place of theirs."""
    folder = tmp_path_factory.mktemp("sources")
    found = []
    for index in range(3):
        path = write_checkpoint(folder / f"m{index}", random_tensors(index))
        (path / "vocab.txt").write_text(f"good\nword-{index}\n")
        found.append({file.name: file.read_bytes() for file in path.iterdir()})
    return found


class Strike:
    """Does something before the n-th read of a source; counts reads."""

    def __init__(self, monkeypatch, sources):
        self.sources, self.at, self.count, self.act, self.struck = sources, 0, 0, None, ""
        self._watch(monkeypatch, MemoryStore, "read", lambda store, key: f"{store.uri}/{key}")
        self._watch(monkeypatch, LocalStore, "read", lambda store, key: f"{store.uri}/{key}")
        self._watch(monkeypatch, LocalStore, "read_into", lambda store, key: f"{store.uri}/{key}")
        self._watch(monkeypatch, LocalReader, "read_into", lambda reader, _: reader._where)

    def _watch(self, monkeypatch, owner, name, place_of):
        real = getattr(owner, name)

        def read(this, first, /, *more, **how):
            self.reading(place_of(this, first))
            return real(this, first, *more, **how)

        monkeypatch.setattr(owner, name, read)

    def reading(self, place):
        """Called before each read of anything."""
        if not place.startswith(self.sources) or place.endswith("manifest.json"):
            return
        self.count += 1
        if self.count == self.at:
            self.struck = place
            self.act(place)

    def arm(self, at, act):
        self.at, self.act, self.count, self.struck = at, act, 0, ""


def put_sources(uri, files):
    for index in range(2):
        if "://" in uri:
            write_files(f"{uri}/m{index}", files[index])
            continue
        folder = Path(uri) / f"m{index}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files[index].items():
            (folder / name).write_bytes(content)
            # Clocks of file systems tick slowly: what is pinned is older than any change.
            os.utime(folder / name, (time.time() - HOUR,) * 2)


def pin_sources(uri, *, with_versions=True):
    found = [pin_checkpoint(f"{uri}/m{index}", name=f"m{index}")[0] for index in range(2)]
    return found if with_versions else [without_versions(checkpoint) for checkpoint in found]


def without_versions(checkpoint):
    def strip(pinned):
        return tuple(replace(file, pin=replace(file.pin, version=None)) for file in pinned)

    return replace(
        checkpoint, shards=strip(checkpoint.shards), side_files=strip(checkpoint.side_files)
    )


def fuse_into(checkpoints, out):
    plan = plan_merge(model_request(checkpoints, [0.5, 0.5], MergeWish()), unit_bytes=4096)
    return fuse(
        plan,
        Target(open_store(out), "model", "ledger", "fused", "fused"),
        hands=Hands(SerialRunner(), 1),
        manner=Manner(1 << 30),
    )


def new_place():
    return f"memory://{uuid.uuid4().hex}"


def published(out):
    """What a reader of the model gets; {} where no manifest makes it one."""
    store = open_store(out)
    names = {entry.key.removeprefix("model/") for entry in store.list("model/")}
    if "manifest.json" not in names:
        return {}
    return {name: store.read(f"model/{name}") for name in names - {"manifest.json", "README.md"}}


def overwrite_in_place(place, files):
    with open(place, "r+b") as file:  # noqa: PTH123  # the same inode, other bytes
        file.write(files[2][Path(place).name])


def replace_by_rename(place, files):
    aside = Path(place).with_name("aside")
    aside.write_bytes(files[2][Path(place).name])
    aside.replace(place)


def cut_short(place, files):
    os.truncate(place, os.path.getsize(place) // 2)  # noqa: PTH202


def make_longer(place, files):
    with open(place, "ab") as file:  # noqa: PTH123
        file.write(b"more")


def delete_file(place, files):
    Path(place).unlink()


ON_A_DISK = [overwrite_in_place, replace_by_rename, cut_short, make_longer, delete_file]


def check_every_index(strike, files, sources, new_out, change, **pinning):
    """Change what is being read, or the other source, at every read; returns how it ended."""
    put_sources(sources, files)
    right_out = new_out()
    fuse_into(pin_sources(sources, **pinning), right_out)
    right = published(right_out)
    assert SHARD in right
    ended = []
    for is_other in (False, True):
        at = 0
        while True:
            at += 1

            def act(place, is_other=is_other):
                other = {"/m0/": "/m1/", "/m1/": "/m0/"}
                for old, new in other.items() if is_other else ():
                    if old in place:
                        place = place.replace(old, new)
                        break
                strike.struck = place
                change(place, files)

            strike.arm(0, None)
            put_sources(sources, files)
            checkpoints = pin_sources(sources, **pinning)
            strike.arm(at, act)
            out = new_out()
            message = ""
            try:
                fuse_into(checkpoints, out)
            except SourceChangedError as error:
                message = str(error)
            if message:
                assert f"{strike.struck} was " in message
                assert "when it was pinned and is " in message
            assert published(out) == ({} if message else right)
            ended.append("refused" if message else "pinned bytes")
            if not strike.struck:
                break
    assert len(ended) > 50
    return ended


@pytest.mark.parametrize("change", ON_A_DISK, ids=lambda change: change.__name__)
def test_a_file_that_changes_at_any_read_is_refused_or_read_as_pinned(
    tmp_path, monkeypatch, files, change
):
    strike = Strike(monkeypatch, str(tmp_path / "in"))
    ended = check_every_index(strike, files, str(tmp_path / "in"), new_place, change)
    # An open file that was replaced or deleted still has the pinned bytes.
    in_place = change in (overwrite_in_place, cut_short, make_longer)
    assert ended.count("refused") > (len(ended) // 2 if in_place else 1)


def overwrite_object(place, files):
    uri, _, name = place.rpartition("/")
    open_store(uri).put(name, files[2][name])


def delete_object(place, files):
    uri, _, name = place.rpartition("/")
    open_store(uri).delete(name)


@pytest.mark.parametrize("change", [overwrite_object, delete_object])
@pytest.mark.parametrize("with_versions", [False, True], ids=["etags", "versions"])
def test_an_object_that_changes_at_any_read_is_refused_or_read_in_its_version(
    monkeypatch, files, change, with_versions
):
    place = new_place()
    strike = Strike(monkeypatch, f"{place}/in")
    ended = check_every_index(
        strike,
        files,
        f"{place}/in",
        new_place,
        change,
        with_versions=with_versions,
    )
    if with_versions:
        assert set(ended) == {"pinned bytes"}
    else:
        assert ended.count("refused") > len(ended) // 2


class StrikingProxy(FaultProxy):
    """Does something before it passes on the n-th read of a shard."""

    at, count, act, struck = 0, 0, None, False

    def pick(self, method, path):
        if method == "GET" and path.partition("?")[0].endswith(SHARD):
            self.count += 1
            if self.count == self.at:
                self.struck = True
                self.act()
        return super().pick(method, path)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("bucket", "change"),
    [
        ("plain", "overwritten"),
        ("plain", "deleted"),
        ("plain", "longer"),
        ("versioned", "overwritten"),
        ("versioned", "deleted"),
    ],
)
def test_on_s3_if_match_and_versions_do_the_same(tmp_path, moto, use, files, bucket, change):
    use(moto)
    sources = f"s3://{bucket}/changing-{uuid.uuid4().hex[:8]}"
    second = open_store(f"{sources}/m1")

    def act():
        if change == "deleted":
            second.delete(SHARD)
        else:
            second.put(SHARD, files[2][SHARD] + b"more" * (change == "longer"))

    with StrikingProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        put_sources(sources, files)
        fuse_into(pin_sources(sources), str(tmp_path / "right"))
        right = published(str(tmp_path / "right"))
        for at in (2, 15):
            put_sources(sources, files)
            checkpoints = pin_sources(sources)
            proxy.count, proxy.at, proxy.struck, proxy.act = 0, at, False, act
            use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
            out = str(tmp_path / f"out-{at}")
            if bucket == "versioned":
                fuse_into(checkpoints, out)
                assert published(out) == right
            else:
                with pytest.raises(SourceChangedError, match=f"m1/{SHARD} was .* and is .* now"):
                    fuse_into(checkpoints, out)
                assert published(out) == {}
            assert proxy.struck
            use(moto)


def test_a_run_whose_source_changes_while_it_merges_ends_with_20_and_the_next_attempt_works(
    project, monkeypatch
):
    strike = Strike(monkeypatch, str(project / "candidates/a"))
    is_merging = []

    def say(step, *_):
        if step.startswith("merge") and not is_merging:
            is_merging.append(step)

    def touch(place):
        Path(place).touch()

    real = strike.reading

    def reading(place):
        if is_merging:
            real(place)

    strike.reading = reading
    strike.arm(2, touch)
    with pytest.raises(SourceChangedError, match=r"candidates/a/\S+ was"):
        run_project(project, say=say)
    assert strike.struck
    output = project / "merged"
    outcome = json.loads((output / "runs/nightly-2026-11-24/outcome.json").read_text())
    assert (outcome["result"], outcome["exit_status"]) == ("source_changed", 20)
    assert EXIT_STATUSES[SourceChangedError.code] == 20
    assert not (output / "latest.json").exists()
    assert not list(output.glob("runs/*/model-*/manifest.json"))
    again = run_project(project)
    assert again.run == "nightly-2026-11-24.2"
    assert (output / "latest.json").exists()
