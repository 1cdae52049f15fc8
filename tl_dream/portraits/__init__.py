"""What a unit looks for: which tokens carry a text, and what a random direction would have looked for."""

from tl_dream.portraits.atlases import atlas
from tl_dream.portraits.comparison import SENTENCES, Choices, read_choices
from tl_dream.portraits.diversity import diverse_dreams
from tl_dream.portraits.essentials import essential
from tl_dream.portraits.minimal import minimal_dream
from tl_dream.portraits.placebos import LINES, check_comparable, check_varies, placebo, sampled
from tl_dream.portraits.portraying import Painter, portrait
