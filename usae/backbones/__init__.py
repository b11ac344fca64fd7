"""Networks: how they are built and read (`networks`), and where their weights come from (`weights`)."""
