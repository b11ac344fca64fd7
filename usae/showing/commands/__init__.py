"""`usae figures`: figures of chosen concepts, on request."""
