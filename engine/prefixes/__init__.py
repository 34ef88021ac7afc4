"""What was computed of prompts and answers, kept for prompts that begin the same.

`index` decides, at rank 0: it knows tokens, and no arrays. `segments` is each rank's share of what is kept:
arrays, by the numbers that the index gives out. `disk` brings a share over a restart.
"""
