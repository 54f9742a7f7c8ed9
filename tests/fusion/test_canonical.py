import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.canonical import digest, from_json, to_json
from fusion.errors import ManifestError
from fusion.manifests.pointer import Pointer
from fusion.manifests.report import RunReport
from tests.support.sample_report import make_report


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    pair: tuple[str, int]
    table: Mapping[str, float]
    maybe: Inner | None
    kind: Literal["a", "b"]
    flag: bool


@dataclass(frozen=True, slots=True)
class Named:
    name: str
    count: int = 3
    parts: tuple[int, ...] = field(default_factory=tuple)


INNERS = st.builds(Inner, st.text(max_size=10), st.floats(allow_nan=False))
OUTERS = st.builds(
    Outer, INNERS, st.lists(INNERS, max_size=3).map(tuple), st.tuples(st.text(), st.integers()),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False)), st.none() | INNERS,
    st.sampled_from(["a", "b"]), st.booleans(),
)  # fmt: skip


@given(OUTERS)
def test_a_value_survives_and_has_one_text(value):
    content = to_json(value)
    again = from_json(Outer, content)
    assert again == value
    assert to_json(again) == content
    assert content.isascii()
    assert len(digest(content)) == 64


def test_numbers_that_are_not_finite_survive():
    for value in (math.inf, -math.inf):
        assert from_json(Inner, to_json(Inner("x", value))).share == value
    assert math.isnan(from_json(Inner, to_json(Inner("x", math.nan))).share)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"name":"x"}', b'{"name":1,"share":1}', b'{"name":"x","share":"big"}',
     b'{"name":"x","share":1,"more":2}', b'{"name":"x","share":true}',
     b'{"name":"x","name":"y","share":1}', b'{"name":"x","share":NaN}'],
)  # fmt: skip
def test_what_does_not_fit_is_refused(content):
    with pytest.raises(ManifestError):
        from_json(Inner, content)


@dataclass(frozen=True, slots=True)
class Open:
    settings: Mapping[str, object]


def test_a_field_of_any_kind_is_read_as_it_is():
    value = Open({"r": 8, "names": ["q", "v"], "nested": {"is": None}})
    assert from_json(Open, to_json(value)) == value


def test_a_field_that_an_older_release_did_not_know_has_its_default():
    assert from_json(Named, b'{"name":"x"}') == Named("x", 3, ())
    with pytest.raises(ManifestError, match="fields"):
        from_json(Named, b'{"count":4}')


def test_another_schema_is_refused_by_number():
    with pytest.raises(ManifestError, match="schema 7, this version of metafuse reads 1"):
        from_json(Pointer, b'{"schema":7}')


def test_a_whole_report_survives():
    report = make_report()
    assert from_json(RunReport, to_json(report)) == report
