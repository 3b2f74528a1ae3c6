"""Chinese templates of phrases: evaluation."""

EVALUATION: dict[str, str] = {}
