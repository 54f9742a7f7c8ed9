"""The policy of the pool: no Ray, and a clock that is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.workers.board import Board, Node, choose_nodes, find_room, usual_fingerprint
from cluster.workers.patience import Patience
from cluster.workers.runner import Resources

GIB = 1 << 30


def make_board(count, **changes):
    return Board([1.0] * count, [f"item {n}" for n in range(count)], Patience(**changes))


def node(name, cpus=4.0, memory=0.0, **changes):
    return Node(name, {"CPU": cpus, "memory": memory}, **changes)


def test_items_are_handed_out_in_order_and_once():
    board = make_board(3)
    assert [board.take((n, 0), "a", 0.0) for n in range(4)] == [0, 1, 2, None]


def test_a_first_unit_on_a_silent_worker_is_done_elsewhere_at_once():
    board = make_board(1)
    board.take((0, 0), "a", 0.0)
    assert board.write_off(set(), 100.0) == []
    assert board.take((1, 0), "b", 100.0) is None
    board.write_off({0}, 101.0)
    assert board.take((1, 0), "b", 101.0) == 0
    assert board.finish((1, 0), 5.0) == 0
    assert board.finish((0, 0), 200.0) is None
    assert board.is_done


def test_the_first_answer_counts_and_the_other_attempt_is_not_begun():
    board = make_board(1)
    board.take((0, 0), "a", 0.0)
    board.write_off({0}, 20.0)
    assert board.finish((0, 0), 21.0) == 0
    assert board.take((1, 0), "b", 22.0) is None


def test_a_deadline_is_five_times_the_usual_for_the_size():
    board = Board([1.0] * 5 + [1.0, 3.0], [""] * 7, Patience())
    assert board.deadline(board_attempt(board, 0, 0)) == 3600.0
    board.finish((0, 0), 10.0)
    for lane in range(1, 5):
        board.take((lane, 0), "a", 0.0)
        board.finish((lane, 0), 10.0)
    assert board.deadline(board_attempt(board, 5, 5)) == 50.0
    assert board.deadline(board_attempt(board, 6, 6)) == 150.0


def test_a_try_that_was_given_up_does_not_make_the_next_one_late():
    board = make_board(4, samples=2, shortest=10.0)
    for worker in range(4):
        board.take((worker, 0), f"host-{worker}", 0.0)
    board.finish((0, 0), 1.0)
    board.finish((1, 0), 1.0)
    board.write_off(set(), 60.0)
    assert {board.take((worker, 0), f"host-{worker}", 60.0) for worker in (0, 1)} == {2, 3}
    assert board.take((4, 0), "host-4", 60.0) is None
    assert board.take((4, 0), "host-4", 63.0) is not None


def board_attempt(board, lane, expected):
    assert board.take((lane, 0), "a", 0.0) == expected
    return board.running[lane, 0]


def test_a_late_unit_gets_twice_the_time_at_its_next_try():
    board = make_board(6)
    for lane in range(6):
        board.take((lane, 0), "a", 0.0)
    for lane in range(5):
        board.finish((lane, 0), 1.0)
    board.write_off(set(), 30.0)
    assert board.todo == []
    board.write_off(set(), 31.0)
    board.take((9, 0), "b", 31.0)
    assert board.deadline(board.running[9, 0]) == 60.0


def make_late_board():
    """Six items: five took a second each, the last runs on host a since second 10."""
    board = make_board(6)
    for lane in range(5):
        board.take((lane, 0), "a/1", 9.0)
        board.finish((lane, 0), 1.0)
    board.take((5, 0), "a/1", 10.0)
    return board


def test_what_one_host_is_slow_with_is_tried_on_an_idle_one_and_the_first_answer_counts():
    board = make_late_board()
    assert board.take((7, 0), "b/2", 11.9) is None
    assert board.take((8, 0), "a/3", 13.0) is None
    assert board.take((7, 0), "b/2", 13.0) == 5
    assert board.take((9, 0), "c/4", 14.0) is None
    assert board.finish((7, 0), 1.0) == 5
    assert board.finish((5, 0), 9.0) is None
    assert board.is_done


def test_a_lost_second_attempt_leaves_the_first_alone():
    board = make_late_board()
    board.take((7, 0), "b/2", 13.0)
    assert board.lose((7, 0), "gone") is None
    assert board.todo == []
    assert board.finish((5, 0), 9.0) == 5


def test_how_most_hosts_compute_counts_however_many_workers_one_has():
    odd = [("a", "x")] * 5
    assert usual_fingerprint([*odd, ("b", "y"), ("c", "y")]) == "y"
    assert usual_fingerprint([("a", "x"), ("b", "y")]) == "x"
    assert usual_fingerprint([]) == ""


def test_a_poison_item_is_named_with_its_hosts_and_the_last_reason():
    board = make_board(1)
    for n, host in enumerate(["a/1", "b/2", "a/1"]):
        board.take((n, 0), host, 0.0)
        assert board.lose((n, 0), "out of memory") is None
    board.take((3, 0), "c/3", 0.0)
    assert board.lose((3, 0), "killed") == 0
    message = str(board.describe_poison(0))
    assert "item 0 lost 4 workers on a/1, b/2, c/3; the last: killed" in message
    assert board.is_done


def test_the_head_gets_no_worker_while_another_node_has_room():
    nodes = [node("head", is_head=True), node("h1"), node("h2")]
    assert find_room(nodes, Resources()) == {"h1": 4, "h2": 4}
    assert find_room(nodes, Resources(use_head=True)) == {"head": 4, "h1": 4, "h2": 4}
    assert find_room(nodes[:1], Resources()) == {"head": 4}
    assert find_room([nodes[0], node("h1", cpus=0.0)], Resources()) == {"head": 4}


def test_a_node_that_is_drained_gets_no_worker():
    nodes = [node("h1"), node("h2", is_draining=True)]
    assert find_room(nodes, Resources()) == {"h1": 4}


def test_memory_and_the_network_bound_the_workers_of_a_node():
    nodes = [node("h1", cpus=16.0, memory=10.0 * GIB)]
    assert find_room(nodes, Resources(resident_bytes=GIB)) == {"h1": 7}
    assert find_room(nodes, Resources(resident_bytes=GIB, most_a_node=3)) == {"h1": 3}
    assert find_room(nodes, Resources(resident_bytes=100 * GIB)) == {"h1": 1}


def test_workers_go_to_the_emptiest_node_first():
    assert choose_nodes({"a": 2, "b": 2}, {"a": 1}, 9) == ["b", "a", "b"]
    assert choose_nodes({}, {}, 3) == []


EVENTS = st.lists(
    st.tuples(st.sampled_from(["take", "finish", "lose", "silent", "wait"]), st.integers(0, 5)),
    max_size=200,
)


@given(st.integers(1, 6), EVENTS)
def test_whatever_happens_each_item_ends_once_and_none_is_forgotten(count, events):
    board, now, ended = make_board(count, longest=100.0), 0.0, []
    for what, worker in events:
        lane, now = (worker, 0), now + 1.0
        if what == "take" and lane not in board.running:
            board.take(lane, str(worker), now)
        elif what == "finish" and lane in board.running:
            ended += [i for i in [board.finish(lane, 1.0)] if i is not None]
        elif what == "lose":
            poison = board.lose(lane, "gone")
            if poison is not None:
                board.describe_poison(poison)
                ended.append(poison)
        elif what in ("silent", "wait"):
            now += 50.0 if what == "wait" else 0.0
            for poison in board.write_off({worker} if what == "silent" else set(), now):
                board.describe_poison(poison)
                ended.append(poison)
        under_way = {a.index for a in board.running.values() if not a.is_written_off}
        assert under_way | set(board.todo) | board.finished == set(range(count))
        assert max(board.tries.values(), default=0) <= board.patience.tries
    assert sorted(ended) == sorted(board.finished)


@pytest.mark.parametrize("wanted", [0, 1, 5, 99])
@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 5)))
def test_no_node_gets_more_than_it_has_room_for(wanted, room):
    chosen = choose_nodes(room, {}, wanted)
    assert len(chosen) == min(wanted, sum(room.values()))
    assert all(chosen.count(name) <= room[name] for name in chosen)
