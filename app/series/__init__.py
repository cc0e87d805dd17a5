"""The curves of a run: each metric's points, stored in blocks, read whole or thinned out."""
