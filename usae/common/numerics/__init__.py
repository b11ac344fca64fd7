"""Numerics that know no SAE: regression, correlation, matching, significance, ranking."""
