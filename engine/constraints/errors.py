"""What can be wrong with a format."""


class GrammarError(Exception):
    """A format that no answer can be held to; its text says why, for the person who asked for it."""
