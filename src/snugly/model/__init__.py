"""What a model is (headers), and how it gets here (references, sources, the store)."""
