"""Tuning: settings of a model chosen on validation."""
