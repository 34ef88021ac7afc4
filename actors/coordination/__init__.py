"""Who coordinates, what is declared, and what a coordinator does next: no sockets, no clocks."""
