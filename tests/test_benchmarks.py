"""The benchmark of the GPU runs on a CPU as well, and says what it is there to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_the_cpu(minilm: torch.nn.Module) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for line in (
        "dreams: one",
        "annealing: the article's step",
        "token search: 2 layers",
        "corpus: 100 lines",
        "CPU: sc",
    ):
        assert line in run.stdout
    assert "the same bits" in run.stdout and "the first of them as alone: the same text" in run.stdout
    assert "scores within 0.0e+00" in run.stdout
