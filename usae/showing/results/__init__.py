"""A finished run, opened: its tables, its SAE, examples of its concepts, and which concepts are shown."""
