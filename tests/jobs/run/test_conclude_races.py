"""Sixteen publishers and an operator on one pointer, round after round."""

import threading
import uuid
from functools import partial

import pytest

from cluster.stores.open_store import open_store
from jobs.operate.promotion import hold, unhold
from jobs.outputs.pointer import Nominee, move_pointer, read_history, read_pointer
from tests.jobs.run.test_conclude_machine import check_chain

PUBLISHERS = 16


def publish(store, run, order, judged_against):
    nominee = Nominee(
        recipe="nightly", run=run, model=f"runs/{run}/model", manifest_sha256="0" * 64,
        order=order, judged_against=judged_against,
    )  # fmt: skip
    return move_pointer(store, nominee).moved


def date(number):
    return f"{2000 + number // 300}-{number // 25 % 12 + 1:02d}-{number % 25 + 1:02d}"


def race(works):
    """Do all at once; what each returned."""
    barrier = threading.Barrier(len(works))
    found = [None] * len(works)

    def one(number):
        barrier.wait()
        found[number] = works[number]()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def run_rounds(store, rounds):
    """Every fourth round another process sets a hold; every second round some runs are too old."""
    for number in range(1, rounds + 1):
        before = read_pointer(store)
        incumbent = before.pointer.run if before else ""
        works = []
        for publisher in range(PUBLISHERS):
            is_old = number % 2 == 0 and publisher < 4
            order = (date(number - 1 if is_old else number), 1)
            run = f"nightly-{order[0]}-{number}-{publisher}"
            works.append(partial(publish, store, run, order, incumbent))
        if number % 4 == 0:
            works.append(partial(hold, store, reason=f"round {number}"))
        found = race(works)
        after = read_pointer(store).pointer
        winners = [n for n, moved in enumerate(found[:PUBLISHERS]) if moved == "promoted"]
        if number % 4 == 0:
            assert len(winners) <= 1
            assert after.hold == f"round {number}"
            unhold(store, reason="")
        else:
            assert len(winners) == 1
        if winners:
            assert after.high_water == (date(number), 1)
            assert after.run.endswith(f"-{number}-{winners[0]}")
            assert after.previous == incumbent
        else:
            assert after.run == incumbent
    check_chain(store)
    history = list(read_history(store))
    assert len({pointer.changed.id for pointer in history}) == len(history)


def test_two_hundred_rounds_have_one_winner_each():
    run_rounds(open_store(f"memory://{uuid.uuid4().hex}"), 200)


def test_forty_rounds_in_a_folder_have_one_winner_each(tmp_path):
    run_rounds(open_store(str(tmp_path)), 40)


@pytest.mark.slow
def test_two_hundred_rounds_in_a_folder_have_one_winner_each(tmp_path):
    run_rounds(open_store(str(tmp_path)), 200)


@pytest.mark.s3
@pytest.mark.long
def test_four_rounds_on_moto_have_one_winner_each(moto, use):
    use(moto)
    run_rounds(open_store(f"s3://plain/{uuid.uuid4().hex}"), 4)


@pytest.mark.s3
@pytest.mark.slow
def test_two_hundred_rounds_on_moto_have_one_winner_each(moto, use):
    use(moto)
    run_rounds(open_store(f"s3://plain/{uuid.uuid4().hex}"), 200)


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.xdist_group("seaweedfs")
def test_ten_rounds_on_seaweedfs_have_one_winner_each(seaweedfs, use):
    use(seaweedfs)
    run_rounds(open_store(f"s3://plain/{uuid.uuid4().hex}"), 10)
