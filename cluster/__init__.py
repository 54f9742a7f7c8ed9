"""The machines: stores of objects, workers, Ray. Knows nothing about models."""
