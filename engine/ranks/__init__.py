"""What computes steps: a plan, and each rank's share of it, in one process or in several."""
