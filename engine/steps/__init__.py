"""What a step is: what goes into it, how it is planned, and what comes of it. Values, and one protocol."""
