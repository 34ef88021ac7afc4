"""The bus: typed messages, their bytes on the wire, and the ZeroMQ sockets that carry them."""
