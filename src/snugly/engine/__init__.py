"""How a plan runs: existing engines behind one seam, each a supervised process."""
