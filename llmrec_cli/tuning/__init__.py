"""Hyperparameter tuning on the validation split."""
