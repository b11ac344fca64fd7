"""How SAEs are trained, any number side by side: a stage, its loop over batches (`loop`), one step (`step`)."""
