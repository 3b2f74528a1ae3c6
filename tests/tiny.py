"""The tiny shop, which comes with the package for the tests of other people's parts."""

from llmrec_cli.testing.tiny_shop import GENRES, NUM_COLD, NUM_ITEMS, NUM_USERS, WORDS, write_tiny

__all__ = ["GENRES", "NUM_COLD", "NUM_ITEMS", "NUM_USERS", "WORDS", "write_tiny"]
