"""How the built-in model is made: its text, its tokenizer, its training and its measure."""
