"""One run on the hosts of a Ray cluster: the driver that is supervised, and what it has run on each host."""
