"""An activation moved along a concept, and read back."""

from tl_dream.editing.edits import edit_concept, replaced_activation
from tl_dream.editing.steering import read_steered
