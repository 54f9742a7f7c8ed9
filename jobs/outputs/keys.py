"""What every object of an output is called."""

POINTER_KEY = "latest.json"
POINTER_LOG = "pointer-log"
LEASE_KEY = "lease.json"
SCORES = "scores"
# In a run's folder.
PLAN_KEY = "plan.json"
SLICES_KEY = "slices.parquet"
RECIPE_KEY = "recipe.yaml"
WEIGHTS_KEY = "weights.json"
REPORT_KEY = "report.json"
RUN_MANIFEST = "manifest.json"
OUTCOME_KEY = "outcome.json"
PROGRESS_KEY = "progress.json"
REMOVED_KEY = "removed.json"
# In a model's folder.
MODEL_MANIFEST = "manifest.json"
