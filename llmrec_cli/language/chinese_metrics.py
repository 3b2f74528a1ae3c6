"""Chinese templates of phrases: metrics."""

METRICS: dict[str, str] = {}
