"""PURE: what fits, how it is placed, and why. No I/O, no clock, no environment."""
