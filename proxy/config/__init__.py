"""Typed settings from TOML and the environment."""
