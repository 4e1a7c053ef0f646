"""The version of the pack, as pyproject.toml says it: the host loads the pack without installing it."""

VERSION = "0.2.0"
