"""Training by gradients: one loop, given a model, batches, a loss and a validation callback; it names no head."""
