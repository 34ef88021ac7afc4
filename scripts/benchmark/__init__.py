"""Measures a node side by side with mlx_lm.server, on the same model, machine and load."""
