"""Heads: the recommenders, one file each."""
