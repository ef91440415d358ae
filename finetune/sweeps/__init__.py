"""Sweeps: which options are tried, which trial comes next, and which is given up."""
