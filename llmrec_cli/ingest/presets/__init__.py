"""Readers of published data sets with formats of their own, one small file each; line numbers are those of the files.
"""
