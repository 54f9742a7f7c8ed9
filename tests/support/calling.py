"""Call the command line in this process, and edit what it reads."""

import pytest

from jobs.cli.main import main


def call(capsys, *arguments):
    """Exit status, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def plan(capsys, project):
    """`metafuse plan` of a project's recipe."""
    return call(capsys, "plan", project / "recipe.yaml")


def edit_recipe(project, old, new):
    """Replace a piece of a project's recipe."""
    path = project / "recipe.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
