"""What a Runner is made of: its engine process, its place among the ranks, who waits for what."""
