"""The runs of a method, and their names."""
