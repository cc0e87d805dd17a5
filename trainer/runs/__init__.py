"""What every run does, and the runs that learn from rows; ``trainer.loop`` learns from rewards."""
