"""What the tests of several rooms share (judges)."""

TEXTS = ["the red dog sees a cat", "i hate the moon"]
