"""Activations to sparse codes: encoded, stored, read by chunks and rows (stage `encode`)."""
