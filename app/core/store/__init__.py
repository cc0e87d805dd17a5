"""The artefact store: uploads, results, checkpoints and states in a bucket that all hosts reach."""
