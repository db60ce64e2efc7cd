"""Finds and explains what is wrong: pure judgements over facts, and thin readers of the facts."""
