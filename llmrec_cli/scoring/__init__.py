"""One scorer for evaluation, recommendation, tuning and validation."""
