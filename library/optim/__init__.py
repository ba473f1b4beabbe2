"""Optimizers and learning-rate schedules, as tables of names."""
