"""Read and write safetensors headers, more strictly than the reference parser.

The format: 8 bytes little-endian header length N, N bytes of JSON, then the tensors' bytes without
holes. Refused beyond the reference: a name given twice, leading blanks, unknown fields, dimensions
above 2**40, more than 8 axes, empty, overlong or control-character names, oversized headers.
Numbers are checked as Python integers, which do not wrap around.
Source: https://github.com/huggingface/safetensors#format
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from fusion.checkpoints.checkpoint import TensorSpec
from fusion.dtypes import tensor_bytes
from fusion.errors import HeaderError, TruncatedError

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 200_000
MAX_DIMENSION = 1 << 40
MAX_AXES = 8
MAX_NAME_BYTES = 512
LENGTH_BYTES = 8
FIELDS = {"dtype", "shape", "data_offsets"}
# A tensor with 8 axes has 5 strings and 14 of "[", "{" and ",".
MARKS_PER_TENSOR = 24
# The closing quote is optional, so text without one is read once, not once a quote.
MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)
UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
SURROGATE = re.compile("[\ud800-\udfff]")


def header_length(
    first: bytes, *, file_size: int, shard: str, max_bytes: int = MAX_HEADER_BYTES
) -> int:
    """Length N of the JSON text, from the first 8 bytes of a file.

    Raises:
        TruncatedError: the file ends within its header.
        HeaderError: N is zero or above `max_bytes`.
    """
    if file_size < LENGTH_BYTES or len(first) < LENGTH_BYTES:
        raise TruncatedError(
            f"{shard} has {file_size} bytes, a safetensors file has at least {LENGTH_BYTES + 2}"
        )
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > max_bytes:
        raise HeaderError(
            f"{shard}: the header claims {length:,} bytes, the limit is {max_bytes:,}"
        )
    if length < 2:
        raise HeaderError(f"{shard}: the header claims {length} bytes, at least 2 are needed")
    if LENGTH_BYTES + length > file_size:
        raise TruncatedError(
            f"{shard} ends within its header: {LENGTH_BYTES + length:,} bytes expected, "
            f"{file_size:,} found"
        )
    return length


def parse_header(
    prefix: bytes,
    *,
    file_size: int,
    shard: str,
    max_bytes: int = MAX_HEADER_BYTES,
    max_tensors: int = MAX_TENSORS,
) -> tuple[TensorSpec, ...]:
    """The tensors of a file, from its first 8 + N bytes.

    Args:
        prefix: first bytes of the file: at least the length field and the JSON text.
        file_size: size of the whole file in bytes.
        shard: name of the file; goes into the specs and into messages.
        max_bytes: largest length N of the JSON text, in bytes.
        max_tensors: largest number of tensors.

    Returns:
        Specs in file order, with offsets counted from the start of the file.

    Raises:
        TruncatedError: the file ends before its last tensor.
        HeaderError: anything else that is wrong.
    """
    length = header_length(prefix[:8], file_size=file_size, shard=shard, max_bytes=max_bytes)
    text = prefix[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(text) < length:
        raise TruncatedError(f"{shard}: {len(text)} of {length} header bytes were read")
    _check_marks(text, max_tensors, shard)
    table = _parse_json(text, shard)
    _check_metadata(table.pop("__metadata__", {}), shard)
    if len(table) > max_tensors:
        raise HeaderError(f"{shard}: {len(table):,} tensors, the limit is {max_tensors:,}")
    start = LENGTH_BYTES + length
    specs = [_parse_entry(name, entry, shard, start) for name, entry in table.items()]
    specs.sort(key=lambda spec: (spec.start, spec.end))
    _check_cover(specs, start, file_size, shard)
    return tuple(specs)


def format_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Length field and JSON for tensors stored one after the other, padded to 8 bytes.

    Args:
        tensors: (name, dtype, shape) of each tensor, in file order.
        metadata: strings under `__metadata__`, which is left out when this is empty.

    Raises:
        ValueError: a name given twice or reserved, an unknown dtype.
    """
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, dtype, shape in tensors:
        if name in table or name == "__metadata__":
            raise ValueError(f"{name!r} cannot name a tensor, or names two")
        begin, end = end, end + tensor_bytes(dtype, shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _check_marks(text: bytes, max_tensors: int, shard: str) -> None:
    """Refuse JSON that would grow in memory: 32 MiB of "[],[]" become 1 GiB of lists."""
    limit = MARKS_PER_TENSOR * (max_tensors + 64)
    if sum(1 for _ in islice(MARK.finditer(text), limit + 1)) > limit:
        raise HeaderError(
            f"{shard}: the header has more than {limit:,} strings, lists, objects and commas, "
            f"which suffice for {max_tensors:,} tensors"
        )


def _parse_json(text: bytes, shard: str) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise HeaderError(f"{shard}: the header starts with {text[:4]!r}, '{{' expected")
    try:
        table = json.loads(
            text.decode("utf-8", errors="strict"),
            object_pairs_hook=_refuse_repeats,
            parse_constant=_refuse_constant,
            parse_int=_parse_size,
        )
    except UnicodeDecodeError as error:
        raise HeaderError(f"{shard}: the header is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise HeaderError(f"{shard}: the header is not JSON: {error}") from None
    except RecursionError:
        raise HeaderError(f"{shard}: the header is nested too deep") from None
    assert isinstance(table, dict)  # it starts with a brace
    return table


def _refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice!r:.200} is given twice")
    return table


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not a number of JSON")


def _parse_size(digits: str) -> int:
    if digits.startswith("-"):  # -0 too, which would otherwise pass for 0
        raise ValueError(f"{digits:.40} is negative")
    return int(digits)


def _check_metadata(metadata: object, shard: str) -> None:
    if metadata is None:  # the reference reads it as absent
        return
    if not isinstance(metadata, dict):
        raise HeaderError(f"{shard}: __metadata__ is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise HeaderError(f"{shard}: __metadata__[{key!r:.80}] is not a string")
        if SURROGATE.search(key) or SURROGATE.search(value):
            raise HeaderError(f"{shard}: __metadata__ holds a lone surrogate")


def _parse_entry(name: str, entry: object, shard: str, start: int) -> TensorSpec:
    _check_name(name, shard)
    where = f"{shard}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != FIELDS:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise HeaderError(f"{where}: fields {sorted(FIELDS)} expected, {found!s:.200} found")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape, MAX_DIMENSION) or len(shape) > MAX_AXES:
        raise HeaderError(
            f"{where}: shape {shape!r:.200}; at most {MAX_AXES} axes of 0 to 2**40 are read"
        )
    if not _are_sizes(offsets, 1 << 63) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise HeaderError(f"{where}: data_offsets {offsets!r:.200} are not two rising offsets")
    if math.prod(d for d in shape if d) >= 1 << 60:
        raise HeaderError(f"{where}: shape {shape} holds more elements than a file can")
    try:
        size = tensor_bytes(dtype if isinstance(dtype, str) else repr(dtype), shape)
    except ValueError as error:
        raise HeaderError(f"{where}: {error}") from None
    if offsets[1] - offsets[0] != size:
        raise HeaderError(
            f"{where}: {dtype} {shape} takes {size} bytes, its offsets span "
            f"{offsets[1] - offsets[0]}"
        )
    return TensorSpec(name, dtype, tuple(shape), shard, start + offsets[0], start + offsets[1])


def _check_name(name: str, shard: str) -> None:
    if not name or UNREADABLE.search(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise HeaderError(
            f"{shard}: tensor name {name!r:.80} is empty, has control characters or more than "
            f"{MAX_NAME_BYTES} bytes"
        )


def _are_sizes(values: object, limit: int) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= limit for v in values
    )


def _check_cover(specs: Iterable[TensorSpec], start: int, file_size: int, shard: str) -> None:
    """Tensors must follow each other from the header's end to the file's, leaving nothing over."""
    position = start
    for spec in specs:
        if spec.start < position:
            raise HeaderError(
                f"{shard}: tensor {spec.name!r} overlaps the one before it by "
                f"{position - spec.start} bytes"
            )
        if spec.start > position:
            raise HeaderError(
                f"{shard}: {spec.start - position} bytes before tensor {spec.name!r} belong to none"
            )
        position = spec.end
    if position > file_size:
        raise TruncatedError(
            f"{shard} ends too early: {position:,} bytes expected, {file_size:,} found"
        )
    if position < file_size:
        raise HeaderError(f"{shard}: {file_size - position:,} bytes after the last tensor")
