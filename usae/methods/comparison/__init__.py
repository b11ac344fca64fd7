"""Every method on the same activations and the same questions (stage `compare`)."""
