"""What clients speak, as pairs of pure functions: read a request, write an answer."""
