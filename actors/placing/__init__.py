"""What a Placement looks at, and what follows from it for this node and its requests."""
