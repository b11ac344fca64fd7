"""Pretrained networks behind one call: RGB pixels in, tokens of the common grid out."""
