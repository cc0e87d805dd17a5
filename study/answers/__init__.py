"""Are two modes better than one that is rewarded for unique answers? A study of exploration by answers."""
