"""Settings of each head, a file each; the table is in `settings/head.py`."""
