"""The loop over batches, and one SAE in it: trainer, optimisers, start, checkpoints, log."""
