"""river's Half-Space Trees over the rows of a stream: score, then learn.

    river_trees.py STREAMS

Reads STREAMS/SET.SEED.npy as `stockade-trainer rivals streams` writes it, the rows in the order in which every method meets
them, and writes STREAMS/SET.SEED.scores.npy, one score a row; higher = more anomalous.
"""

import sys
from pathlib import Path

import numpy
from river import anomaly, preprocessing


def main() -> None:
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.npy")):
        if path.name.endswith(".scores.npy"):
            continue
        seed = int(path.stem.rsplit(".", 1)[1])
        scores = numpy.array(list(score_then_learn(numpy.load(path), seed)), dtype="<f8")
        numpy.save(path.with_suffix(".scores.npy"), scores)
        print(f"scored   {path.name}")


def score_then_learn(rows, seed):
    """As shipped (10 trees of height 8, windows of 250), columns brought to 0..1 by what was learnt."""
    scale, trees = preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=seed)
    for row in rows:
        row = dict(enumerate(row.tolist()))
        yield trees.score_one(scale.transform_one(row)) if trees.trees else 0.0
        scale.learn_one(row)
        trees.learn_one(scale.transform_one(row))


if __name__ == "__main__":
    main()
