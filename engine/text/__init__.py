"""From a conversation to tokens, and from tokens to an answer's text, reasoning and calls."""
