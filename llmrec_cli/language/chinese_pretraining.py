"""Chinese templates of phrases: pretraining."""

PRETRAINING: dict[str, str] = {}
