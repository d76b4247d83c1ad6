"""scikit-learn on the vectors of the own corpus, one file a host: learn from the training events, score the others.

    own_corpus.py VECTORS SCORES [--seed N]

Reads VECTORS/HOST.parquet as `stockade-trainer rivals vectors` writes it (no label is in it), writes SCORES/HOST.parquet:
the key of each event to be judged, and one column a detector; higher = more anomalous.
"""

import argparse
from pathlib import Path

import polars
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

KEY = ["day", "place"]
COORDINATES = ["seq", "priv", "lineage", "file", "net", "fanout", "volume", "error"]
# A kernel machine needs time by the square of its rows.
SVM_ROWS = 5_000
SVM_OUTSIDE = 0.01


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("vectors", type=Path)
    options.add_argument("scores", type=Path)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    asked.scores.mkdir(parents=True, exist_ok=True)
    for path in sorted(asked.vectors.glob("*.parquet")):
        scored(polars.read_parquet(path), asked.seed).write_parquet(asked.scores / path.name)
        print(f"scored   {path.name}")


def scored(events: polars.DataFrame, seed: int) -> polars.DataFrame:
    raw = [name for name in events.columns if name not in [*KEY, "train", "late", *COORDINATES]]
    judged = events.filter(~polars.col("train"))
    train = events.filter("train")
    # Early coordinates are all surprise: as for our own batch detectors, those of a baseline that exists.
    late = events.filter("late")
    sample = late.sample(min(SVM_ROWS, late.height), seed=seed)
    name = f"scikit-learn {sklearn.__version__} "
    columns = {
        name + "IsolationForest, eight coordinates": forest(late, judged, COORDINATES, seed),
        name + "IsolationForest, raw features": forest(train, judged, raw, seed),
        name + f"OneClassSVM, eight coordinates, {SVM_ROWS} rows": machine(sample, judged),
    }
    return judged.select(KEY).with_columns(**{name: polars.Series(values) for name, values in columns.items()})


def forest(learnt, judged, columns, seed):
    """As shipped: 100 trees of 256 rows."""
    fitted = IsolationForest(random_state=seed).fit(learnt.select(columns).to_numpy())
    return -fitted.score_samples(judged.select(columns).to_numpy())


def machine(learnt, judged):
    """Standardised, radial kernel, gamma as shipped; one row of a hundred may lie outside."""
    scale = StandardScaler().fit(learnt.select(COORDINATES).to_numpy())
    fitted = OneClassSVM(nu=SVM_OUTSIDE).fit(scale.transform(learnt.select(COORDINATES).to_numpy()))
    return -fitted.decision_function(scale.transform(judged.select(COORDINATES).to_numpy()))


if __name__ == "__main__":
    main()
