"""The documentation's site: its pages are made from docs/, from the repository's documents and from code."""
