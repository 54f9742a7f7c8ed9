from itertools import permutations

import pytest
import torch

from fusion.dtypes import (
    FLOATS,
    ITEM_BYTES,
    SUB_BYTE_BITS,
    TORCH_NAMES,
    parse_dtype,
    promote,
    tensor_bytes,
)


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_sizes_are_those_of_torch(name):
    assert getattr(torch, TORCH_NAMES[name]).itemsize == ITEM_BYTES[name]


@pytest.mark.parametrize("name", FLOATS)
def test_every_spelling_of_a_floating_dtype_is_read(name):
    plain = TORCH_NAMES[name]
    assert parse_dtype(name) == parse_dtype(plain) == parse_dtype(f"torch.{plain}") == name


@pytest.mark.parametrize("name", ["int8", "I8", "fp16", "", "torch.", "bfloat16 ", "F8_E4M3"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="bfloat16"):
        parse_dtype(name)


@pytest.mark.parametrize("pair", list(permutations(FLOATS, 2)), ids=str)
def test_promotion_is_that_of_torch(pair):
    first, second = (getattr(torch, TORCH_NAMES[name]) for name in pair)
    assert TORCH_NAMES[promote(pair)] == str(torch.promote_types(first, second))[6:]


@pytest.mark.parametrize("names", [(), ("F32", "I64"), ("F8_E4M3",)])
def test_only_floats_are_promoted(names):
    with pytest.raises(ValueError, match="cannot promote"):
        promote(names)


def test_one_dtype_is_not_widened():
    assert promote(["BF16", "BF16"]) == "BF16"


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("F32", (), 4),
        ("BF16", (3, 5), 30),
        ("C64", (2,), 16),
        ("F4", (3, 2), 3),
        ("I64", (0, 9), 0),
    ],
)
def test_a_tensor_takes_its_elements_times_their_size(dtype, shape, size):
    assert tensor_bytes(dtype, shape) == size


@pytest.mark.parametrize(("dtype", "shape"), [("F4", (3,)), ("F6_E2M3", (2,)), ("F33", (1,))])
def test_a_size_that_does_not_exist_is_refused(dtype, shape):
    with pytest.raises(ValueError, match=r"whole bytes|unknown dtype"):
        tensor_bytes(dtype, shape)


def test_no_dtype_is_in_two_tables():
    assert not ITEM_BYTES.keys() & SUB_BYTE_BITS.keys()
    assert set(FLOATS) < TORCH_NAMES.keys() < ITEM_BYTES.keys()
