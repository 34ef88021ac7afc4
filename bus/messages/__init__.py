"""Every message that travels between actors and processes, one module per conversation."""
