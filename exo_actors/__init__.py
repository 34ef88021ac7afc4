"""The launcher: `python -m exo_actors` makes this machine a node."""

__version__ = "0.1.0"
