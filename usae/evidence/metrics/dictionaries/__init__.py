"""Directions: agreement with independent SAEs and with other starts."""
