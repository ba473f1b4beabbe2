"""Drawn pictures measured against the pictures that were trained on, and against their prompts."""
