"""What this box has: thin readers, pure parsers, and where each fact came from."""
