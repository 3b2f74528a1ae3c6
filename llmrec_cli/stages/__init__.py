"""The five commands, flat recipes."""
