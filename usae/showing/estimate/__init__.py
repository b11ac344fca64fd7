"""What a run will cost, from a few batches that are timed here (`usae estimate`)."""
