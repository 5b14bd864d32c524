"""Statistical inference whose unit is a Kalshi event within a session; arrays in, numbers out.

bootstrap    cluster_means, crossed_bootstrap; percentile_interval, bca_interval, jackknife_means
paired       sign_flip_test (exact or Monte Carlo), holm
sharpe       sharpe_per_unit, sharpe_interval, psr, deflated_sharpe, effective_trials
overfitting  pbo: combinatorially symmetric cross-validation
shares       wilson_interval, smallest_detectable_effect

Nothing here knows `min_units`: the callers claim nothing below it. `scipy.stats` has the
distributions, the moments and Wilson's interval. Its `bootstrap` and `permutation_test` call a
function for every quantity and cannot share draws between the columns of a table: they are peers in
the tests. `arch.bootstrap` calls a Python function for every resample and brings statsmodels, for
what is one matrix product here.
"""

from kalshi_pipeline.evaluation.inference.bootstrap import (
    Interval,
    bca_interval,
    cluster_counts,
    cluster_means,
    cluster_totals,
    crossed_bootstrap,
    interquartile_mean,
    jackknife_means,
    percentile_interval,
)
from kalshi_pipeline.evaluation.inference.overfitting import pbo
from kalshi_pipeline.evaluation.inference.paired import holm, sign_flip_test
from kalshi_pipeline.evaluation.inference.shares import (
    smallest_detectable_effect,
    wilson_interval,
)
from kalshi_pipeline.evaluation.inference.sharpe import (
    deflated_sharpe,
    effective_trials,
    expected_best_sharpe,
    psr,
    sharpe_deviation,
    sharpe_interval,
    sharpe_per_unit,
)

__all__ = [
    "Interval",
    "bca_interval",
    "cluster_counts",
    "cluster_means",
    "cluster_totals",
    "crossed_bootstrap",
    "deflated_sharpe",
    "effective_trials",
    "expected_best_sharpe",
    "holm",
    "interquartile_mean",
    "jackknife_means",
    "pbo",
    "percentile_interval",
    "psr",
    "sharpe_deviation",
    "sharpe_interval",
    "sharpe_per_unit",
    "sign_flip_test",
    "smallest_detectable_effect",
    "wilson_interval",
]
