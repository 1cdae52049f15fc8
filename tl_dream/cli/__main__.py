"""`python -m tl_dream.cli`."""

import sys

from tl_dream.cli.app import main

sys.exit(main())
