"""The mathematics of the method and its baselines, one idea a file: tensors in, tensors out."""
