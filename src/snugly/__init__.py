"""Snugly: large language models that fit and run well on the machine you already own."""

__version__ = "0.1.0"
