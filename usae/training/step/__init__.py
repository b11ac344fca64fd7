"""One step of training: its loss and gradients, literally and fast."""
