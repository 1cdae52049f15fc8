"""`python -m tl_dream`: the command `tl-dream`."""

import sys

from tl_dream.cli import main

if __name__ == "__main__":
    sys.exit(main())
