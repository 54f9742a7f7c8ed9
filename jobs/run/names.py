"""What the models of a run are called that are not candidates."""

FUSED = "(fused)"
UNIFORM = "(uniform average)"
INCUMBENT = "(incumbent)"
# No candidate may have one of these names.
RESERVED = (FUSED, UNIFORM, INCUMBENT)
