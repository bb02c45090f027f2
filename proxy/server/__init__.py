"""The process: listeners, start-up, shutdown."""
