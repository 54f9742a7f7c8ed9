"""Open objects: the longest unused are closed, one in use never is; EMFILE names the limit."""

import contextlib
import os
import resource

import pytest

from cluster.errors import OpenFilesError
from cluster.stores.local.store import LocalStore
from cluster.stores.open_readers import OpenReaders


class Counting:
    """Counts what is open of it."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []

    def open(self, number: int):
        self.opened.append(number)
        outer = self

        class One:
            def read_into(self, buffer, /, *, start):
                assert number not in outer.closed

            def close(self):
                outer.closed.append(number)

        return One()

    def use(self, readers: OpenReaders, number: int):
        return readers.use(number, lambda: self.open(number))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def few_files(number: int):
    """As many more files may be open as `number`, while the block runs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit, free = 0, -1
    while free < number:
        free += not is_open(limit)
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit - 1, before[1]))
    try:
        yield limit - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_longest_unused_is_closed():
    made, readers = Counting(), OpenReaders(2)
    for number in (1, 2, 1, 3, 1):
        with made.use(readers, number):
            pass
    assert (made.opened, made.closed) == ([1, 2, 3], [2])
    readers.close()
    assert made.closed == [2, 3, 1]


def test_one_in_use_is_not_closed():
    made, readers = Counting(), OpenReaders(1)
    with made.use(readers, 1) as first, made.use(readers, 2), made.use(readers, 3):
        readers.close()
        first.read_into(memoryview(b""), start=0)
    assert made.closed == [3, 2] or made.closed == [2, 3]


def test_where_no_more_may_be_open_the_idle_ones_go_and_it_is_tried_again(tmp_path):
    for number in range(6):
        (tmp_path / str(number)).write_bytes(b"x")
    store, readers = LocalStore(str(tmp_path)), OpenReaders(100)
    with few_files(3):
        for number in range(6):
            key, buffer = str(number), memoryview(bytearray(1))
            with readers.use(key, lambda key=key: store.open_reader(key)) as reader:
                reader.read_into(buffer, start=0)
            assert bytes(buffer) == b"x"
    readers.close()


def test_the_limit_is_named(tmp_path):
    (tmp_path / "k").write_bytes(b"x")
    store = LocalStore(str(tmp_path))
    with few_files(0) as limit, pytest.raises(OpenFilesError, match=f"may have {limit:,}") as found:
        store.read("k")
    assert "ulimit -n" in found.value.hint
