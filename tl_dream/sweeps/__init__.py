"""Thousands of dreams as one job: kept in a folder, resumed after a kill, spread over processes and machines."""

from tl_dream.sweeps.patterns import Unit, units
from tl_dream.sweeps.reading import SweepFailure, SweepStatus, read_sweep, sweep_result, sweep_status, write_parquet
from tl_dream.sweeps.sweeping import sweep
