"""Gradient training: one loop for all heads, which takes a model, batches, a loss and a validation callback."""
