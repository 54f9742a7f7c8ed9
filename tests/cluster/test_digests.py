import random

import pytest
from awscrt import checksums
from hypothesis import given
from hypothesis import strategies as st

from cluster.digests import CRC_DIGITS, KnownCrc, combine_crcs, compute_crc

CONTENT = random.Random(1).randbytes(1000)


@pytest.mark.parametrize(
    ("kind", "digits"),
    # The check values of the catalogue of parametrised CRC algorithms, of b"123456789".
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")],
)
def test_crcs_are_those_of_the_catalogue(kind, digits):
    assert compute_crc(kind, b"123456789") == digits
    assert (
        combine_crcs(kind, [(compute_crc(kind, b"1234"), 4), (compute_crc(kind, b"56789"), 5)])
        == digits
    )


@pytest.mark.parametrize("kind", CRC_DIGITS)
@given(cuts=st.lists(st.integers(1, 999), max_size=8))
def test_pieces_combine_to_the_crc_of_the_whole_wherever_they_are_cut(kind, cuts):
    known = KnownCrc(kind, compute_crc(kind, CONTENT))
    assert known.of_pieces(pieces_of(known, cuts)) == known.digits


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 999), max_size=8),
)
def test_pieces_combine_to_the_crc_of_the_crcs_of_the_parts(sizes, cuts):
    total = sum(count * size for count, size in sizes)
    parts = (*sizes, (1, len(CONTENT) - total)) if total < len(CONTENT) else ((1, len(CONTENT)),)
    written, place = b"", 0
    for size in [size for count, size in parts for _ in range(count)]:
        written += checksums.crc32(CONTENT[place : place + size]).to_bytes(4, "big")
        place += size
    known = KnownCrc("crc32", f"{checksums.crc32(written):08x}", parts)
    assert known.of_pieces(pieces_of(known, cuts)) == known.digits


def pieces_of(known, cuts):
    """CRCs of ranges that end at the cuts, and at the ends of parts."""
    ends = sorted({*cuts, len(CONTENT)})
    return [
        (compute_crc(known.kind, CONTENT[first:last]), last - first)
        for start, end in zip([0, *ends], ends, strict=False)
        for first, last in known.cut(start, end)
    ]


def test_a_range_is_cut_where_parts_end():
    known = KnownCrc("crc32c", "00000000", ((2, 10), (1, 5), (1, 1)))
    assert [*known.cut(3, 26)] == [(3, 10), (10, 20), (20, 25), (25, 26)]
    assert [*known.cut(10, 20)] == [(10, 20)]
    assert [place for place in range(27) if known.is_border(place)] == [0, 10, 20, 25, 26]
    assert known.name == "CRC32C of 4 parts"


def test_without_parts_nothing_is_cut():
    known = KnownCrc("crc64nvme", "0" * 16)
    assert [*known.cut(3, 26)] == [(3, 26)]
    assert not any(known.is_border(place) for place in range(27))
    assert known.name == "CRC64NVME"
