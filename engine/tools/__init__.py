"""Tool calls in an answer, read while they arrive, in each of the forms that models write them in."""
