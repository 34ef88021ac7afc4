"""How the next token is chosen, and what was likely."""
