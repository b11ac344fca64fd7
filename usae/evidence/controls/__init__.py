"""What is trained beside the universal SAE, and what each control is called."""
