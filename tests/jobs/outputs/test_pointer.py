import threading

import pytest

from cluster.stores.memory import MemoryStore
from fusion.canonical import digest, from_json
from fusion.errors import ManifestError
from fusion.manifests.model import FileEntry, ModelManifest
from jobs.errors import PointerError
from jobs.outputs.model import commit_model
from jobs.outputs.pointer import (
    Nominee,
    find_promotion,
    log_key,
    move_pointer,
    read_history,
    read_pointer,
)


@pytest.fixture
def store(request):
    return MemoryStore(f"memory://{request.node.name}")


def move(store, run, order, judged_against="", recipe="nightly"):
    nominee = Nominee(
        recipe=recipe, run=run, model=f"runs/{run}/model", manifest_sha256="0" * 64,
        order=order, judged_against=judged_against,
    )  # fmt: skip
    return move_pointer(store, nominee).moved


def test_the_first_model_is_promoted(store):
    assert move(store, "n-1", ("2026-11-24", 1)) == "promoted"
    pointer = read_pointer(store).pointer
    assert (pointer.epoch, pointer.previous, pointer.high_water) == (1, "", ("2026-11-24", 1))


def test_a_repeated_promotion_changes_nothing(store):
    move(store, "n-1", ("2026-11-24", 1))
    assert move(store, "n-1", ("2026-11-24", 1)) == "already"
    assert read_pointer(store).pointer.epoch == 1


def test_an_older_date_never_wins(store):
    move(store, "n-2", ("2026-11-25", 1))
    assert move(store, "n-1", ("2026-11-24", 7), "n-2") == "superseded"


def test_a_hold_is_kept(store):
    move(store, "n-1", ("2026-11-24", 1))
    seen = read_pointer(store)
    from dataclasses import replace

    from fusion.canonical import to_json

    store.put("latest.json", to_json(replace(seen.pointer, hold="on call")), if_match=seen.etag)
    assert move(store, "n-2", ("2026-11-25", 1), "n-1") == "held"


def test_a_model_judged_against_another_incumbent_is_not_promoted(store):
    move(store, "n-1", ("2026-11-24", 1))
    assert move(store, "n-3", ("2026-11-26", 1), "n-0") == "lost"
    assert move(store, "n-3", ("2026-11-26", 1), "") == "lost"


def test_a_pointer_of_another_recipe_is_refused(store):
    move(store, "n-1", ("2026-11-24", 1))
    with pytest.raises(PointerError):
        move(store, "o-1", ("2026-11-25", 1), "n-1", recipe="other")


def test_of_sixteen_publishers_one_wins_each_round(store):
    before = ""
    for day in range(1, 31):
        results = []
        barrier = threading.Barrier(16)

        def publish(number, day=day, before=before, results=results, barrier=barrier):
            barrier.wait()
            run = f"n-{day}-{number}"
            results.append((move(store, run, (f"2026-11-{day:02d}", 1), before), run))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [run for moved, run in results if moved == "promoted"]
        pointer = read_pointer(store).pointer
        assert (pointer.run, pointer.previous, pointer.epoch) == (winner, before, day)
        before = winner


def test_a_run_that_was_promoted_once_is_found_whatever_stands_there_now(store):
    for day, before in ((1, ""), (2, "n-1"), (3, "n-2")):
        move(store, f"n-{day}", (f"2026-11-0{day}", 1), before)
    found = [find_promotion(store, f"n-{day}", (f"2026-11-0{day}", 1)) for day in (1, 2, 3, 4)]
    assert [pointer and (pointer.epoch, pointer.previous) for pointer in found] == [
        (1, ""), (2, "n-1"), (3, "n-2"), None,
    ]  # fmt: skip


def test_every_replaced_pointer_is_kept_as_it_was(store):
    seen = []
    for day, before in ((1, ""), (2, "n-1"), (3, "n-2")):
        move(store, f"n-{day}", (f"2026-11-0{day}", 1), before)
        seen.append(store.read("latest.json"))
    assert [store.read(log_key(epoch)) for epoch in (1, 2)] == seen[:2]
    assert [pointer.run for pointer in read_history(store)] == ["n-3", "n-2", "n-1"]


def test_a_run_that_is_finished_is_not_promoted_any_more(store):
    store.put("runs/n-1/outcome.json", b"{}")
    assert move(store, "n-1", ("2026-11-24", 1)) == "finished"
    assert read_pointer(store) is None


def test_a_pointer_that_was_removed_by_hand_is_not_taken_for_a_fresh_output(store):
    move(store, "n-1", ("2026-11-01", 1))
    move(store, "n-2", ("2026-11-02", 1), "n-1")
    store.delete("latest.json")
    with pytest.raises(PointerError, match=r"latest.json is gone"):
        move(store, "n-3", ("2026-11-03", 1))


def test_a_second_driver_of_a_run_that_was_promoted_and_replaced_hears_so(store):
    move(store, "n-1", ("2026-11-01", 1))
    move(store, "n-2", ("2026-11-02", 1), "n-1")
    assert move(store, "n-1", ("2026-11-01", 1)) == "superseded"
    assert find_promotion(store, "n-1", ("2026-11-01", 1)).epoch == 1


def commit(store, sides):
    manifest = ModelManifest(plan="p", method="linear", files=(), sources=())
    return commit_model(
        store, "model", side_files=sides, shards=[FileEntry("model.safetensors", 4, "a" * 64, 8)],
        manifest=manifest,
    )  # fmt: skip


def test_the_manifest_lists_every_file_and_comes_last(store):
    sha = commit(store, {"config.json": b"{}"})
    content = store.read("model/manifest.json")
    assert digest(content) == sha
    manifest = from_json(ModelManifest, content)
    assert [entry.name for entry in manifest.files] == ["config.json", "model.safetensors"]
    assert commit(store, {"config.json": b"{}"}) == sha


def test_another_manifest_in_the_same_place_is_refused(store):
    commit(store, {"config.json": b"{}"})
    with pytest.raises(ManifestError, match="differs"):
        commit(store, {"config.json": b"{ }"})


def test_a_damaged_pointer_is_not_taken_for_none(store):
    store.put("latest.json", b'{"schema": 99}')
    with pytest.raises(ManifestError, match="schema 99"):
        read_pointer(store)
