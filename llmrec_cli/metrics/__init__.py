"""Metrics: arrays in, arrays out."""
