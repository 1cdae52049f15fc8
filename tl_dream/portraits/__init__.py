"""What a unit looks for: which tokens carry a text, and what a random direction would have looked for."""

from tl_dream.portraits.essentials import essential
