"""The tiny shop, part of the package for the tests of plugins."""

from llmrec_cli.testing.tiny_shop import GENRES, NUM_COLD, NUM_ITEMS, NUM_USERS, WORDS, write_tiny

__all__ = ["GENRES", "NUM_COLD", "NUM_ITEMS", "NUM_USERS", "WORDS", "write_tiny"]
