"""For the operator: promotion by hand, status, gc, history."""
