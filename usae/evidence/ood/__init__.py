"""The finished SAE on images of another kind (stage `ood`)."""
