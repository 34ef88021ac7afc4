"""Random traffic for an engine, however it is divided: `python -m tests.engine.stress --help`."""
