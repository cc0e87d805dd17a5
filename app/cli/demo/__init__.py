"""``policysplit demo``: the whole product on one machine, in minutes."""
