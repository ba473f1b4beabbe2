"""The embedded default: a drawn picture world, a small base model trained on it, and one subject outside it.

world          creatures: what they are made of and how they are drawn
captions       creatures in plain words
draw_subject   the striped creature that the base model cannot draw
sight          what an eye takes from a picture: colour words, ground, figure
templates      drawn forms matched against a picture at every place at once
judge          plain image analysis: what a picture really shows
judge_subject  which of the striped creature's marks a picture shows
trials         the prompts that the judge is tried with, and the figures
structure      SD 1.5's structure with fewer channels, and its folder on disk
training       budgets, learning-rate curve and checkpoints of the two trainings
vae_training   pictures to latents
unet_training  captions to latents
card           the model card, from what was measured
captioner_training  a small BLIP that says which creature a picture shows
judge_captions      what a caption says and whether it is true; the captioner's card
tagger_training     a small tagger in the format of the WD14 taggers, and its ONNX file
tagger_card         how well that tagger knows the world, and its card
"""
