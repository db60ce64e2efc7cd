"""Quantizing: from weights in one type to a file that fits."""
