"""Scripts for working on Snugly."""
