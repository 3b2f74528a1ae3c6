"""What prepared data looks like, and what in it is likely to be wrong."""
