"""The index of a run's images, and their pixels as networks want them."""
