"""Models: what they are (cards), where they lie (the store), and the one that is built in."""
