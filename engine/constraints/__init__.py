"""Holds answers to a format: JSON, a regular expression, a grammar, or calls in the model's own syntax."""
