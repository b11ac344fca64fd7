"""Images to activations: one network's tokens, chunk by chunk (stages `extract` and `untrained`)."""
