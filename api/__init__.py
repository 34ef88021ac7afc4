"""HTTP in OpenAI's words: translates bodies into orders and a request's events into answers."""
