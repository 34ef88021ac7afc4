"""Guesses of what comes next, for speculative decoding: where they come from, and when they are worth it."""
