"""A small Django application for the compatibility tests."""
