"""Chinese templates of phrases: audit."""

AUDIT: dict[str, str] = {}
