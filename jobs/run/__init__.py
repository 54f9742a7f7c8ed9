"""The main job: attempts, steps, verdict, outcome."""
