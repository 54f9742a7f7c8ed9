"""Two drivers that judge one run at once leave one judgement against one incumbent."""

from dataclasses import replace

import pytest

from cluster.stores.memory import MemoryStore
from jobs.outputs.judgements import find_judgements, keep_judgement
from jobs.outputs.run_folder import RunFolder
from tests.support.interrupted_store import InterruptedStore
from tests.support.sample_report import make_report

REPORT = make_report()
ANOTHER = replace(REPORT, headline="another driver's")


@pytest.mark.parametrize("at", range(4))
def test_whoever_writes_first_is_believed_by_both(tmp_path, at):
    store = MemoryStore(f"memory://{tmp_path.name}")
    told = []
    other = RunFolder(store, "run")
    slow = InterruptedStore(store, at, lambda: told.append(keep_judgement(other, ANOTHER)))
    mine = keep_judgement(RunFolder(slow, "run"), REPORT)
    if not told:  # all was done before it came
        told.append(keep_judgement(other, ANOTHER))
    assert mine == told[0]
    assert [judgement.number for judgement in find_judgements(other)] == [1]


@pytest.mark.parametrize("at", range(4))
def test_judgements_against_two_incumbents_both_stand(tmp_path, at):
    store = MemoryStore(f"memory://{tmp_path.name}")
    other = RunFolder(store, "run")
    against = replace(ANOTHER, incumbent="some-other-run")
    slow = InterruptedStore(store, at, lambda: keep_judgement(other, against))
    keep_judgement(RunFolder(slow, "run"), REPORT)
    keep_judgement(other, against)
    found = list(find_judgements(other))
    assert sorted(j.report.incumbent for j in found) == sorted({REPORT.incumbent, "some-other-run"})
    assert [judgement.number for judgement in found] == [1, 2]
