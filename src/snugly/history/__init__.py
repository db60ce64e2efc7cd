"""What happened: conversations and measurements in one SQLite file."""
