"""Actors on two seats, supervised: pykka's contract, and what it lacks."""
