"""What is proven about a trained SAE: codes, metrics, controls, and studies of their own."""
