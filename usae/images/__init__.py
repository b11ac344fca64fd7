"""Pictures: where they come from (`sources`), and their index and pixels (`pixels`)."""
