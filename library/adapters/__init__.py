"""What is added to a frozen model, and its names on disk."""
