"""Text encoders: texts in, vectors out."""
