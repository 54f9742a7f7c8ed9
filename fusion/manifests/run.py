"""A run's manifest: its verdict, and the digests of what it left."""

from dataclasses import dataclass

from fusion.canonical import SCHEMA
from fusion.evidence.verdict import Verdict
from fusion.scores.records import Score


@dataclass(frozen=True, slots=True)
class RunManifest:
    """`runs/{run}/manifest.json`: written after the report, before the pointer moves."""

    run: str
    recipe: str
    logical_date: str
    attempt: int
    recipe_digest: str
    model: str
    model_manifest_sha256: str
    verdict: Verdict
    scores: tuple[Score, ...]
    report_sha256: str
    schema: int = SCHEMA
