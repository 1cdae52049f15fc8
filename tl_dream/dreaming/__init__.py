"""The methods, and dream(), their front door."""

from tl_dream.dreaming.annealing import ARTICLE, Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.dreaming.coordinate_gradient import gcg
from tl_dream.dreaming.dreaming import dream, method_of
from tl_dream.dreaming.many import Finished, dream_many
from tl_dream.dreaming.population import EPOSettings, default_judge, epo, spread_penalties
from tl_dream.dreaming.soft_input import GumbelSoftmaxInput
