"""Secrets in every place where a run may meet one, and a search for them in all that it leaves."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cluster.stores.open_store import open_store
from tests.support.ray_head import ROOT
from tests.support.waiting import LONG

# By the place where each is found.
CANARIES = {
    "AWS_ACCESS_KEY_ID": "CANARYKEYID0A1B2C3D4",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-4b1f/Zq+8e",
    "AWS_SESSION_TOKEN": "canary-session-9c2d7e61f0",
    "credentials file": "canary-profile-secret-77a0c3",
    "RAY_AUTH_TOKEN": "ca4a57" + "0d" * 29,
    "user of the endpoint": "canary-endpoint-pass-51d9",
    "METAFUSE_WEBHOOK": "T00/B00/canary-7f3a9c",
    "HF_TOKEN": "hf_canaryCANARYcanary0123456789",
    "signed URL": "canarysignature6e0f2b9d8c7a",
}


@dataclass
class Scene:
    """A home, a place for Ray, what the commands said, and the environment they ran in."""

    folder: Path
    ray: Path
    environment: dict[str, str]
    said: list[str] = field(default_factory=list)

    def call(self, *words, **changes) -> subprocess.CompletedProcess:
        """metafuse in a process of its own."""
        return self._run([sys.executable, "-m", "jobs", *map(str, words)], changes)

    def run_script(self, script, *words, **changes) -> subprocess.CompletedProcess:
        """A script in Python."""
        return self._run([sys.executable, "-c", script, *map(str, words)], changes)

    def _run(self, command, changes):
        environment = {**self.environment, **changes}
        environment = {name: value for name, value in environment.items() if value is not None}
        done = subprocess.run(
            command, env=environment, cwd=self.folder, text=True, capture_output=True, timeout=LONG
        )
        self.said += [done.stdout, done.stderr]
        return done

    def texts(self, *outputs):
        """(where, bytes) of all that was said, written by Ray or by us, and stored."""
        yield from ((f"output of call {i // 2}", text.encode()) for i, text in enumerate(self.said))
        mine = (self.folder / "aws", self.folder / "home/.ray/auth_token")
        for path in [*self.ray.rglob("*"), *self.folder.rglob("*")]:
            is_mine = any(path.is_relative_to(own) for own in mine)
            if path.is_file() and not path.is_symlink() and not is_mine:
                yield str(path), path.read_bytes()
        for output in outputs:
            store = open_store(output)
            yield from ((entry.key, store.read(entry.key)) for entry in store.list())

    def find(self, *outputs) -> list[tuple[str, str]]:
        """(canary's place, where it was found)."""
        return [
            (name, where)
            for where, content in self.texts(*outputs)
            for name, canary in CANARIES.items()
            if canary.encode() in content
        ]


@contextmanager
def canary_scene(folder: Path, endpoint: str, hook_url: str, hook_place: str):
    """A machine full of secrets.

    Args:
        folder: empty.
        endpoint: of an S3 server that takes any credentials.
        hook_url: of a webhook, with its canary.
        hook_place: its host and port.
    """
    (folder / "home").mkdir()
    (folder / "aws").mkdir()
    (folder / "aws/credentials").write_text(
        f"[night]\naws_access_key_id = {CANARIES['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {CANARIES['credentials file']}\n"
    )
    place = urlsplit(endpoint).netloc
    given = {n: v for n, v in os.environ.items() if not n.startswith(("RAY_", "AWS_"))}
    ray = Path(tempfile.mkdtemp(prefix="mf-", dir="/tmp"))  # socket paths must stay short
    environment = {
        **given,
        **{name: value for name, value in CANARIES.items() if name.isupper()},
        "AWS_ENDPOINT_URL_S3": f"http://night:{CANARIES['user of the endpoint']}@{place}",
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws/credentials"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "METAFUSE_WEBHOOK": hook_url,
        "METAFUSE_NOTIFY_ALLOW": hook_place,
        "METAFUSE_S3_RETRIES": "0",
        "HOME": str(folder / "home"),
        "RAY_AUTH_MODE": "token",
        "RAY_TMPDIR": str(ray),
        "PYTHONPATH": str(ROOT),
    }
    try:
        yield Scene(folder, ray, environment)
    finally:
        shutil.rmtree(ray, ignore_errors=True)
