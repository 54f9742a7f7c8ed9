"""`metafuse doctor`: what is wrong here."""

from dataclasses import asdict
from pathlib import Path

from jobs.console.show import show, show_json
from jobs.exits import CLUSTER, NO_PLACE
from jobs.recipes.recipe import load_recipe


def run_doctor(
    output: str | None,
    address: str | None,
    *,
    recipe: Path | None,
    with_code: bool,
    as_json: bool,
) -> int:
    """`metafuse doctor`."""
    from jobs.doctor.machine import examine

    said: dict[str, object] = {}
    if address is not None and address.startswith(("http://", "https://")):
        from jobs.doctor.jobs_api import examine_jobs_api

        # The submitting machine needs no access to the output: the job looks at it.
        findings = examine(None)
        findings += examine_jobs_api(address.rstrip("/"), output, recipe, with_code=with_code)
    elif address is not None:
        from jobs.doctor.ray_cluster import examine_cluster

        loaded = load_recipe(recipe) if recipe else None
        findings, driver = examine_cluster(address, output, loaded)
        said["driver"] = asdict(driver)
    else:
        findings = examine(output)
    if as_json:
        show_json({**said, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            show(f"{'ok  ' if finding.is_good else 'LOOK'}  {finding.what}: {finding.text}")
    if all(finding.is_good for finding in findings):
        return 0
    return NO_PLACE if address is None else CLUSTER
