"""What networks give: stores on disk, their extraction, batches of them, and the commands that look after them."""
