"""Phrases of HTML pages in English and Chinese."""
