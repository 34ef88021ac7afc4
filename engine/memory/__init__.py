"""KV caches: what they cost, who may have them, and kinds that mlx-lm lacks."""
