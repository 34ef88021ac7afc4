"""How a cluster of many nodes costs and converges: light nodes, without engines, on the real bus."""
