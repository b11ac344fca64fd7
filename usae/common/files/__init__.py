"""Files that are whole or absent, and carry checksums of their own."""
