"""What a base model is and does, one file per family, and drawing with it."""
