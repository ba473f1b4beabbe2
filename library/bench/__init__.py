"""How fast training is, measured against a plain loop."""
