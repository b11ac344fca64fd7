"""Where weights come from: the hub, a checkpoint, this project, or training (stage `weights`)."""
