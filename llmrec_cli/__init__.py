"""llmrec: recommendations from text encoders and collaborative filtering, on the command line."""

__version__ = "0.1.0"
