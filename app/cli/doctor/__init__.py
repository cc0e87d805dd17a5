"""``policysplit doctor``: whether this host, with these settings, can do its part; and if not, what to do."""
