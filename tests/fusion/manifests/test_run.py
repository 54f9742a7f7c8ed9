from fusion.canonical import from_json, to_json
from fusion.evidence.verdict import Verdict
from fusion.manifests.run import RunManifest


def test_the_manifest_of_a_run_survives_and_names_what_the_run_left():
    manifest = RunManifest(
        run="night-2026-11-24",
        recipe="night",
        logical_date="2026-11-24",
        attempt=1,
        recipe_digest="0" * 64,
        model="model-0123456789ab",
        model_manifest_sha256="1" * 64,
        verdict=Verdict("HOLD", "not_better", "worse", ()),
        scores=(),
        report_sha256="2" * 64,
    )
    assert from_json(RunManifest, to_json(manifest)) == manifest
