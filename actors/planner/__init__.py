"""Which nodes run a model, and how it is divided over them: pure functions over facts."""
