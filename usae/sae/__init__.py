"""What is trained: the universal SAE, its layers and its sparse codes."""
