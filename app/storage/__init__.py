"""``/v1/storage``: what a project keeps on the disk."""
