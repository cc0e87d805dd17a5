"""The phases of a training step: sample and grade, resample, loss of a group, update, what is recorded."""
