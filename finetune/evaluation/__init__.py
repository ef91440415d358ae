"""Evaluations: models side by side on the same frozen rows, with intervals that say how sure."""
