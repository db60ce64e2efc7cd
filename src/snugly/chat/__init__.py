"""The internal language: the OpenAI chat-completions shape, whitelisted fields only."""
