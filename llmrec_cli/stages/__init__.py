"""The commands as flat recipes."""
