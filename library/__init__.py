"""Where the logic lives. Imports go down only, and packages on one floor do not know each other.

floor 4   bench/       how fast a step of training is, against a plain loop of the same libraries
floor 3   train/       base data plan job batches step loop model state events outputs results preview validation report
                       what learns: learner learned whole embedding; class_pictures prior ema
                       what keeps a run safe: health places room saves; and rates objective
                       what it takes: memory tape remedies probe fitting; sharding
          prepare/     what preprocess/ does: crops captions tags masks reports
          grid/        pictures over two or three axes, as one picture and one page
          scoring/     drawn pictures against the training pictures and their prompts, by open_clip
floor 2   models/      a base model: family stable sd1 sd2 sdxl layout text drawing saving     one file per family
          data/        pictures and captions: folders captions buckets images dataset cache
floor 1   adapters/    what is added to a frozen model, and its names on disk
          diffusion/   the mathematics, as functions of tensors
          optim/       tables of optimizers and learning-rate schedules
floor 0   settings/ cli lookup samplers errors seeds files documents weights names device memory_limits frozen quantised
          recompute log sheet
"""
