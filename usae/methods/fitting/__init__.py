"""What methods without training are fitted on, and what they give."""
