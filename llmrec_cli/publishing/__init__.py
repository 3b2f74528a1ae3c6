"""Publishing: versions in a folder that others read, and what must hold before one of them becomes the current."""
