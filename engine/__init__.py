"""What runs in an engine process: load, schedule, compute, sample, turn tokens into text."""
