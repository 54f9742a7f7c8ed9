"""What a server tells of the CRC of an object that another tool has written."""

import random
import uuid

import pytest

from cluster.digests import KnownCrc, compute_crc
from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from tests.support.stored_objects import CHECKSUMS, put_parts, put_whole

pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("seaweedfs")]

PART = 5 << 20  # the smallest that S3 takes
CONTENT = random.Random(3).randbytes(2 * PART + 1000)
KINDS = {"CRC32": "crc32", "CRC32C": "crc32c", "CRC64NVME": "crc64nvme"}


@pytest.fixture
def store(seaweedfs, use):
    use(seaweedfs)
    return open_store(f"s3://plain/{uuid.uuid4().hex[:12]}")


def cut(*sizes):
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return [CONTENT[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def crc_of_crcs(kind, pieces):
    return compute_crc(kind, b"".join(bytes.fromhex(compute_crc(kind, piece)) for piece in pieces))


@pytest.mark.parametrize(("algorithm", "kind"), KINDS.items())
def test_the_crc_of_all_bytes_is_told_whether_they_came_in_one_piece_or_in_parts(
    store, algorithm, kind
):
    put_whole(store, "one", CONTENT, algorithm)
    put_parts(store, "parts", cut(PART, PART, 1000), algorithm, "FULL_OBJECT")
    whole = KnownCrc(kind, compute_crc(kind, CONTENT))
    assert store.find_crc("one") == store.find_crc("parts") == whole


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C"])
@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ((PART, PART, 1000), ((2, PART), (1, 1000))),
        ((PART, PART + 1000), ((1, PART), (1, PART + 1000))),
        ((PART + 9, PART, 991), ((1, PART + 9), (1, PART), (1, 991))),
        ((2 * PART + 1000,), ((1, 2 * PART + 1000),)),
    ],
)
def test_a_crc_of_parts_is_told_with_the_sizes_of_the_parts(store, algorithm, sizes, parts):
    put_parts(store, "k", cut(*sizes), algorithm, "COMPOSITE")
    kind = KINDS[algorithm]
    expected = KnownCrc(kind, crc_of_crcs(kind, cut(*sizes)), parts)
    assert store.find_crc("k") == store.find_crc("k", every_part=True) == expected


def test_parts_that_could_be_of_one_size_and_are_not_are_found_by_asking_for_each(store):
    sizes, content = (PART + 40, PART + 80, PART, 600), CONTENT + CONTENT[:PART]
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    pieces = [content[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    put_parts(store, "k", pieces, "CRC32", "COMPOSITE")
    assert store.find_crc("k").parts == ((3, PART + 40), (1, 600))
    assert store.find_crc("k", every_part=True).parts == tuple((1, size) for size in sizes)


def test_digests_that_ranges_do_not_make_are_no_crc(store):
    assert "SHA256" in CHECKSUMS
    put_whole(store, "one", CONTENT, "SHA256")
    put_parts(store, "parts", cut(PART, PART, 1000), "SHA256", "COMPOSITE")
    store.client.put_object(**store.address("none"), Body=CONTENT)
    assert [store.find_crc(key) for key in ("one", "parts", "none")] == [None, None, None]


def test_another_object_than_the_pinned_one_has_no_crc_to_tell(store):
    put_parts(store, "k", cut(PART, PART, 1000), "CRC32", "COMPOSITE")
    etag = store.head("k").etag
    assert store.find_crc("k", if_match=etag) is not None
    put_whole(store, "k", b"other", "CRC32")
    with pytest.raises(PreconditionError):
        store.find_crc("k", if_match=etag)
    with pytest.raises(NotFoundError):
        store.find_crc("absent")


def test_a_version_is_asked_about_by_its_name(seaweedfs, use):
    use(seaweedfs)
    store = open_store(f"s3://versioned/{uuid.uuid4().hex[:12]}")
    pieces = cut(PART, PART, 1000)
    put_parts(store, "k", pieces, "CRC32C", "COMPOSITE")
    old = store.head("k")
    put_whole(store, "k", b"other", "CRC32C")
    known = store.find_crc("k", if_match=old.etag, version=old.version)
    assert known == KnownCrc("crc32c", crc_of_crcs("crc32c", pieces), ((2, PART), (1, 1000)))


def test_a_server_that_does_not_tell_of_parts_has_no_crc_of_them(moto, use):
    """moto keeps no checksum of what came in one piece."""
    use(moto)
    store = open_store(f"s3://plain/{uuid.uuid4().hex[:12]}")
    put_whole(store, "one", CONTENT, "CRC32")
    assert store.find_crc("one") is None
