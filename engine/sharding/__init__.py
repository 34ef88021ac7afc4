"""How a model is divided: a stage of its layers, and tensor ranks that share each layer."""
