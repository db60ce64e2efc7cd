"""The HTTP server: every client's dialect at the edge, one internal language within."""
