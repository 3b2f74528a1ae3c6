"""Readers of published data sets whose format is odd: one small file each, rows and line numbers as in the files."""
