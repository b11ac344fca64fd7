"""Other methods of finding concepts that models share, a file each, and how they compare (`comparison/`)."""
