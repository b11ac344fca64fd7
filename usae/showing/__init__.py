"""What people look at: maximised pictures, figures, the page, and a finished run opened from Python."""
