"""What is trained beside the universal SAE to compare it with, and its names."""
