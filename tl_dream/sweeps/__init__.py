"""Thousands of dreams, portraits or reconstructions as one job: in a folder, resumed after a kill, on many machines."""

from tl_dream.sweeps.kinds import Portraits, Reconstructions
from tl_dream.sweeps.patterns import Unit, units
from tl_dream.sweeps.reading import SweepFailure, SweepStatus, read_sweep, sweep_result, sweep_status, write_parquet
from tl_dream.sweeps.sweeping import sweep
