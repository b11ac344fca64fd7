"""Known labels: how well concepts and activations agree with them."""
