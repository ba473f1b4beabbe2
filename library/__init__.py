"""Where the logic lives. Imports go down only, and packages on one floor do not know each other.

floor 3   train/       data plan batches step loop learner state outputs preview validation report
          prepare/     what preprocess/ does: crops captions tags masks reports
floor 2   models/      a base model: family layout sd1 sd2 sdxl text drawing     one file per family
          data/        pictures and captions: folders captions buckets images dataset cache
floor 1   adapters/    what is added to a frozen model, and its names on disk
          diffusion/   the mathematics, as functions of tensors
          optim/       tables of optimizers and learning-rate schedules
floor 0   settings/ cli lookup errors seeds files weights names device log sheet
"""
