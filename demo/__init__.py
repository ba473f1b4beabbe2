"""The embedded default: a drawn picture world, a small base model trained on it, and one subject outside it.

world          creatures: what they are made of and how they are drawn
captions       creatures in plain words
draw_subject   the striped creature that the base model cannot draw
judge          plain image analysis: what a picture really shows
structure      SD 1.5's structure with fewer channels, and its folder on disk
training       budgets, learning-rate curve and checkpoints of the two trainings
vae_training   pictures to latents
unet_training  captions to latents
"""
