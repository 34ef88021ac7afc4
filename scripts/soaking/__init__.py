"""A long run of random traffic against too little KV cache, and what must hold in it and after it."""
