"""Backups: the database and the files as of one moment, in a folder that can be checked and restored."""
