"""A new model joins a finished universal SAE (stage `onboarding`)."""
