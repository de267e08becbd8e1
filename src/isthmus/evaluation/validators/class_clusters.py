"""Do the predictions follow the clusters of the target's features?

Musgrave, Belongie & Lim, "Three New Validators
and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation", 2022, https://arxiv.org/abs/2208.07360
(ClassAMI).

With k(t) the cluster of target image t by k-means, K clusters in the candidate's own features after the bottleneck:

    score = adjusted mutual information of (k(t)) and (y(t))

Known failure: features that were trained to cluster by prediction agree with themselves, right or wrong; clusters
swapped between classes score the same."""

from typing import final

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return ClassClusters()


@final
class ClassClusters(Validator):
    """Adjusted mutual information of clusters and predictions: 1 the same, 0 what chance gives."""

    def score(self, trial: Trial) -> float:
        """Returns the information; 0 where there are too few different images for K clusters."""
        rows = trial.target_features.astype(np.float64)
        order = np.lexsort(rows.T)  # k-means starts from drawn rows: their order must not decide
        distinct = len(np.unique(rows, axis=0))
        count = min(trial.target_logits.shape[1], distinct)
        if count < 2:
            return 0.0
        found = KMeans(count, n_init=3, random_state=0).fit_predict(rows[order])
        return float(adjusted_mutual_info_score(found, trial.target_logits.argmax(axis=1)[order]))
