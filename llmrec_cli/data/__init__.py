"""Prepared data in memory: columns and sparse matrices, never lists of objects."""
