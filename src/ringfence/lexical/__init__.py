"""WORDS: text → terms, and the index in which a tenant's chunks are found by them."""
