"""`usae pretrain`: checkpoints that the demo ships."""
