"""Errors cross from a worker to the driver by pickle, with all that they say."""

import copy

import pytest

from fusion.errors import FusionError, MismatchError, NonFiniteError

ERRORS = [
    FusionError("what", "do this"),
    MismatchError("differs", "drop it", "E-SHAPE"),
    NonFiniteError("a NaN", "drop it", "seed-1", "dense.weight"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_it_was_raised(error):
    arrived = copy.copy(error)  # by the same protocol
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert (str(arrived), arrived.code, arrived.hint) == (str(error), error.code, error.hint)
