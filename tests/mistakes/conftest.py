import shutil
from pathlib import Path

import pytest

from tests.mistakes.nightly import write_nightly
from tests.mistakes.support import copy_base, write_base

CHAIN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
         "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")  # fmt: skip


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("mistakes") / "base")


@pytest.fixture
def base(template, tmp_path, monkeypatch):
    """A copy of the base, which is the working directory; no key of AWS is at hand."""
    for name in CHAIN:
        monkeypatch.delenv(name, raising=False)
    folder = copy_base(template, tmp_path / "base")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def _nightly(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nightly")
    write_nightly(folder)
    return folder


@pytest.fixture
def nightly(_nightly, tmp_path, monkeypatch):
    """A copy of the folder of `write_nightly`, which is the working directory."""
    folder = Path(shutil.copytree(_nightly, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder
