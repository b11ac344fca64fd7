"""USAE, SPARC and crosscoders as one family: what tells them apart is a handful of switches (`family.py`)."""
