"""The network: weights, adapters, layouts of tokens, log-probabilities, the optimizer."""
