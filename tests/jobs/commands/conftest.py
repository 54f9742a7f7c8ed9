import pytest

from tests.support.merge_command import BLOCK, DOCUMENT
from tests.support.merging import random_tensors, write_checkpoint


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with checkpoints a and b and three documents; commands run in it."""
    for seed, name in enumerate("ab"):
        folder = write_checkpoint(tmp_path / name, random_tensors(seed))
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\ngood\n")
    (tmp_path / "m1.yml").write_text(DOCUMENT)
    (tmp_path / "m2.yml").write_text(DOCUMENT.replace("0.25", "0.5"))
    (tmp_path / "block.yaml").write_text(BLOCK)
    monkeypatch.chdir(tmp_path)
    return tmp_path
