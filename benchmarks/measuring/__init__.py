"""One measurement, and all of them in their order."""
