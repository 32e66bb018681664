"""Active learning: what to label next, what is left to find, and rounds of it."""
