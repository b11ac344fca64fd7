"""Who explains whom: R2 between models, and linear ceilings."""
