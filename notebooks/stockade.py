"""What the notebooks share: where the data are, and a bound or two.

The data are made by `cargo xtask notebooks`, from the recorded corpus or from journals of your own (`--journals DIR`).
Set STOCKADE_NOTEBOOK_DATA to use another folder that holds verdicts.parquet and scorecard.json.
"""

import json
import math
import os
from pathlib import Path

import polars as pl

COORDINATES = ["seq", "priv", "lineage", "file", "net", "fanout", "volume", "error"]
HOUR = 3_600_000_000_000
DATA = Path(os.environ.get("STOCKADE_NOTEBOOK_DATA", Path(__file__).parent.parent / "target" / "notebooks"))


def verdicts() -> pl.DataFrame:
    """One row a judged event that was not quite ordinary."""
    return pl.read_parquet(_there("verdicts.parquet"))


def scorecard() -> dict:
    """What `stockade-trainer evaluate` wrote."""
    return json.loads(_there("scorecard.json").read_text())


def clock(column: str) -> pl.Expr:
    """Seconds since the first row."""
    return ((pl.col(column) - pl.col(column).min()) / 1e9).round(3).alias("seconds")


def poisson_bounds(seen: int, days: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate a day (Garwood, 1936). Nothing seen in d days is at most 3 / d."""
    tail = (1 - confidence) / 2 if seen else 1 - confidence
    low = 0.0 if seen == 0 else _solve(lambda mean: 1 - _at_most(seen - 1, mean) < tail, seen + 1.0)
    high = _solve(lambda mean: _at_most(seen, mean) > tail, 10.0 * (seen + 5))
    return low / days, high / days


def _at_most(seen: int, mean: float) -> float:
    return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(seen + 1)) if mean else 1.0


def _solve(holds, high: float) -> float:
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def _there(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `cargo xtask notebooks`, or set STOCKADE_NOTEBOOK_DATA")
    return path
