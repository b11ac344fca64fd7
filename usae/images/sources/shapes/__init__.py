"""`images.source: shapes`: generated scenes whose concepts are known."""
