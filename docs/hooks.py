"""What the demos write while the site is built goes to a folder of its own, not among the sources; no page shows tqdm's
warning that it has no widgets."""

import os
import tempfile

os.environ.setdefault("TL_DREAM_OUT", tempfile.mkdtemp(prefix="tl-dream-"))
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm's word on widgets, in every page
