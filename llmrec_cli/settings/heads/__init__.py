"""Settings of the heads, one file per head; the table is in `settings/head.py`."""
