"""`usae store list|verify|gc`: stores on disk, looked after by hand."""
