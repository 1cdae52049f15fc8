"""What the demos write while the site is built goes to a folder of its own, not among the sources."""

import os
import tempfile

os.environ.setdefault("TL_DREAM_OUT", tempfile.mkdtemp(prefix="tl-dream-"))
