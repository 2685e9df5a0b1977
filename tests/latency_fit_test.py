"""The regression, on times whose every part is known."""

import numpy as np
import pytest

from cdnet_tf.deploy import latency_files, latency_fit
from cdnet_tf.nn.genotype import CDS

_FITTED = latency_files.balanced(100, seed=0)
_UNSEEN = latency_files.uniform(30, seed=1, known=_FITTED)


def _structured(genotype):
    """2 ms, half a millisecond a CBlock, and 0.1 ms a Lite, dearer in early blocks."""
    return 2 + sum(
        (6 - block) / 6 * layer.repeats * (0.5 + 0.1 * sum(layer.lites))
        for block, layer in enumerate(genotype.layers)
    )


def _odd(genotype):
    """As before, with branches that depart from it, as kernels of a chip do."""
    return _structured(genotype) + sum(
        0.2 * (CDS.index(layer) * (block + 1) % 5)
        for block, layer in enumerate(genotype.layers)
    )


def _model(times, noise=0.0):
    rng = np.random.default_rng(0)
    measured = [times(each) * (1 + noise * rng.normal()) for each in _FITTED]
    return latency_fit.fit(_FITTED, measured)


@pytest.mark.parametrize("times", [_structured, _odd])
def test_finds_the_time_of_each_branch(times):
    model = _model(times)
    judgement = latency_fit.judge(model, _UNSEEN, list(map(times, _UNSEEN)))
    assert judgement.files == 30 and judgement.accepted
    assert judgement.largest_error < 0.01 and judgement.kendall_tau > 0.98


def test_few_files_are_enough_where_branches_are_sums():
    few = _FITTED[:30]
    model = latency_fit.fit(few, list(map(_structured, few)))
    wanted = [_structured(each) for each in _UNSEEN]
    found = [model.milliseconds(each) for each in _UNSEEN]
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_noise_is_not_learnt():
    """5 % of noise in each of 100 times leaves much less in a sum of seven parts."""
    model = _model(_structured, noise=0.05)
    judgement = latency_fit.judge(model, _UNSEEN, list(map(_structured, _UNSEEN)))
    assert judgement.mean_error < 0.03


def test_times_that_are_no_sums_are_refused():
    rng = np.random.default_rng(0)
    times = rng.uniform(1, 3, size=130)
    model = latency_fit.fit(_FITTED, list(times[:100]))
    judgement = latency_fit.judge(model, _UNSEEN, list(times[100:]))
    assert not judgement.accepted


def test_judges_by_share_and_by_order():
    """All of 20 predictions are 2 ms; 19 measurements lie within 10 % of that."""
    constant = latency_fit.Additive(
        2.0, tuple({str(b): 0.0 for b in CDS} for _ in "x" * 6)
    )
    times = [2.1] * 19 + [4.0]
    judgement = latency_fit.judge(constant, _UNSEEN[:20], times)
    assert judgement.within_10_percent == 0.95
    assert judgement.largest_error == pytest.approx(0.5)
    # No two predictions differ, so that they order nothing.
    assert np.isnan(judgement.kendall_tau) and not judgement.accepted


def test_refuses_too_few_files_and_times_of_nothing():
    with pytest.raises(ValueError, match="12 files are too few.*at least 20"):
        latency_fit.fit(_FITTED[:12], [1.0] * 12)
    with pytest.raises(ValueError, match="A time of 0.0 ms is no measurement"):
        latency_fit.fit(_FITTED[:24], [1.0] * 23 + [0.0])
