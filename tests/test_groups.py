"""Tests of one group share a server or a Ray: they must not run on two workers at once."""

import pytest


@pytest.mark.xdist_group("groups")
def test_groups_are_kept_where_tests_are_shared_out_by_group(request):
    by_group = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@groups") == by_group, "this pytest loses groups of xdist"
