"""`llmrec init`: a settings file drafted from the first rows of files."""
