"""What the tests of several rooms share (dreaming)."""

import tl_dream as td

GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)


START = "i do see the sun"


QUICK = {"steps": 12, "evaluate_every": 3}
