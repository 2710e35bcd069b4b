"""A linear SVM on the features of a net."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crnn.experiments.evaluate import Evaluation, data_node
from crnn.experiments.features import Progress, batches
from crnn.net.net import Net


@dataclass
class Svm:
    """scikit-learn's LinearSVC (one against the rest, squared hinge, L2) on standardised features.

    accuracies: c -> the mean accuracy of the cross-validation; `c` is the smallest of the best.
    """

    classes: int
    c: float
    accuracies: dict[float, float]
    model: object

    @classmethod
    def train(cls, x: np.ndarray, labels: np.ndarray, cs: Sequence[float], folds: int, seed: int) -> "Svm":
        """x: float32 [N, D]. Every dimension is shifted and scaled to mean 0 and variance 1 by the records
        that are trained on; in the cross-validation by those of the other folds.

        Raises ValueError where scikit-learn is not installed, or a class has fewer records than `folds`.
        """
        sklearn = installed()
        counts = np.bincount(labels)
        if (counts[counts > 0] < folds).any() or (counts > 0).sum() < 2:
            raise ValueError(
                f"an SVM chosen by {folds} folds needs two classes with {folds} training records each, "
                f"the smallest has {counts[counts > 0].min()}"
            )
        accuracies = {}
        if len(cs) > 1:
            splits = sklearn.model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
            for c in sorted(cs):
                values = sklearn.model_selection.cross_val_score(
                    _pipeline(sklearn, c, seed), x, labels, cv=splits
                )
                accuracies[c] = float(values.mean())
        best = max(accuracies, key=accuracies.get) if accuracies else cs[0]
        model = _pipeline(sklearn, best, seed).fit(x, labels)
        return cls(int(labels.max()) + 1, best, accuracies, model)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """float64 [N, classes], the distances from the classes' planes; -inf for a class without records."""
        values = self.model.decision_function(x)
        if values.ndim == 1:  # of two classes there is one plane
            values = np.stack([-values, values], 1)
        scores = np.full((len(x), self.classes), -np.inf)
        scores[:, self.model.classes_] = values
        return scores


def _pipeline(sklearn, c: float, seed: int):
    scaler = sklearn.preprocessing.StandardScaler()
    return sklearn.pipeline.make_pipeline(
        scaler, sklearn.svm.LinearSVC(C=c, max_iter=10_000, random_state=seed)
    )


def installed():
    """scikit-learn with what is used of it."""
    try:
        import sklearn
        import sklearn.model_selection
        import sklearn.pipeline
        import sklearn.preprocessing
        import sklearn.svm
    except ImportError:
        raise ValueError("a linear SVM needs scikit-learn: pip install crnn[svm]") from None
    return sklearn


def evaluate(svm: Svm, net: Net, blob: str, views: int, progress: Progress) -> Evaluation:
    """The SVM's scores of all records, averaged over the views, as the `probabilities` of an Evaluation."""
    scores, labels, keys = [], [], []
    for features, truth, names in batches(net, blob, views):
        scores.append(np.mean([svm.scores(view) for view in features], 0))
        labels.append(truth)
        keys += names
        progress(len(keys), len(data_node(net).layer.loader))
    truth = np.concatenate(labels)
    if truth.max() >= svm.classes:
        raise ValueError(f"the test has a record of class {truth.max()}, which no training record has")
    return Evaluation(np.concatenate(scores).astype(np.float32), truth, np.array(keys, np.str_), views)
