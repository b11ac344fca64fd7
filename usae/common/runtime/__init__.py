"""What `runtime:` in params.yaml says: devices, progress, signals, trackers, clusters. No result depends on it."""
