"""How alike the models' spaces are, without an SAE and through it."""
