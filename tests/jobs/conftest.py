import shutil

import pytest

from tests.support.tiny_lstm import write_project


@pytest.fixture(scope="session")
def _template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@pytest.fixture
def project(_template, tmp_path):
    """A folder with four candidates, data and recipe.yaml."""
    folder = tmp_path / "project"
    shutil.copytree(_template, folder)
    return folder
