"""What developers run: set-up, tests, model makers."""
