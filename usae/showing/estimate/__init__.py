"""What a run will cost, from two small runs that are timed here (`usae estimate`)."""
