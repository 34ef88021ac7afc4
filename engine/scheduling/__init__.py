"""Rank 0's step loop: who is computed, who waits, what a step does, and what is said of it."""
