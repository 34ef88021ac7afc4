"""Breaks a real cluster in seeded ways while clients stream from it, and checks what they saw."""
