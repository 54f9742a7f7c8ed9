import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.ray_head import ray_head
from tests.support.tiny_lstm import write_project


@pytest.fixture(scope="session")
def _template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The head of a Ray cluster with a token, for all tests of a module."""
    with ray_head(tmp_path_factory.mktemp("head")) as running:
        yield running


@pytest.fixture
def project(_template, tmp_path):
    """A folder with four candidates, data and recipe.yaml."""
    folder = tmp_path / "project"
    shutil.copytree(_template, folder)
    return folder


@pytest.fixture
def quick_folder(tmp_path):
    """A folder in memory where there is one: making sure of bytes on disk costs nothing there."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
