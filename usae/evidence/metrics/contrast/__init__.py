"""The universal SAE beside its controls, measured alike (stage `contrast`)."""
