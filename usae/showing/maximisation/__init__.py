"""Coordinated activation maximisation: pictures that switch a concept on in each model (stage `maximise`)."""
