"""The methods, and dream(), their front door."""

from tl_dream.dreaming.annealing import ARTICLE, Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.dreaming.automatic import Auto
from tl_dream.dreaming.coordinate_gradient import EPO, GCG, default_judge, spread_penalties
from tl_dream.dreaming.dreaming import dream, epo, gcg
from tl_dream.dreaming.many import Finished, dream_many, in_order
from tl_dream.dreaming.projection import PEZ
from tl_dream.dreaming.soft_input import GumbelSoftmaxInput
from tl_dream.dreaming.task import METHODS, Method
