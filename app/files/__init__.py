"""Uploaded and produced files."""
