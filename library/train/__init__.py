"""The loop and what surrounds it; the only package that sees settings."""
