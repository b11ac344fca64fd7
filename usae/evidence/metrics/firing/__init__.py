"""Who fires with whom: counts, nulls, exemplars, importance."""
