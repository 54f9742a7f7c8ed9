import pytest

from fusion.errors import MethodError
from fusion.plans.wish import MergeWish


def test_a_wish_that_a_method_can_fulfil_passes():
    MergeWish().check()
    MergeWish("linear", {"normalize": False}).check()


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (MergeWish("slurp"), "slurp is not a merge method; supported: linear"),
        (MergeWish("linear", {"t": 0.5}), "linear has no parameter 't'; it has normalize"),
    ],
)
def test_what_no_method_takes_is_refused_with_what_there_is(wish, said):
    with pytest.raises(MethodError, match=said):
        wish.check()
