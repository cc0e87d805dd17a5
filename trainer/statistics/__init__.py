"""Pure statistics of sampled answers, one idea a file: numbers in, numbers out, no tensors, no models."""
