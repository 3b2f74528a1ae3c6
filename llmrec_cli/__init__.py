"""llmrec: text encoders and collaborative filtering behind one command line."""

__version__ = "0.1.0"
