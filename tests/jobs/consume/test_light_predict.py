"""One text for a small model: no library is loaded that it does not need."""

import json
import subprocess
import sys

from tests.support.killing import ROOT

NEEDLESS = ("transformers", "torch._dynamo", "scipy", "pyarrow", "ray")
ASK = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([n for n in {NEEDLESS} if n in sys.modules])))
from jobs.cli.main import main
main()
"""


def test_an_answer_loads_only_what_it_needs(project):
    done = subprocess.run(
        [sys.executable, "-c", ASK, "predict", str(project / "candidates/a"), "--text", "good"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    answer, loaded = done.stdout.splitlines()
    assert answer.startswith("positive")
    assert json.loads(loaded) == []
