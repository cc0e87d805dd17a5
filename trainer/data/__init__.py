"""The items that a run trains and is evaluated on."""
