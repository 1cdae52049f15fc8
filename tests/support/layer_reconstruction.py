"""What the tests of several rooms share (layer reconstruction)."""

TEXT = "the red dog was old ."


# ---------------------------------------------------------------- pictures
