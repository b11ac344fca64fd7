"""In everybody's hands: parameters, runtime, numerics that know no SAE, errors, seeds, tables."""
