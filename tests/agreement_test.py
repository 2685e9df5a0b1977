"""Agreement of scores, against arithmetic by hand, SciPy, and known variances."""

import math

import numpy as np
import pytest
from scipy import stats

from cdnet_tf.bench import agreement

NAN = math.nan


def test_tau_by_hand():
    # One of six pairs, (2, 3), is in the other order: (5 - 1) / 6.
    assert agreement.tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    # A genotype without a score is left out; the other three pairs are in order.
    assert agreement.tau([1, 2, NAN, 4], [1, 3, 2, 4]) == 1
    assert math.isnan(agreement.tau([1, 1], [1, 2]))


def test_tau_is_scipys_even_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(5, size=(2, 9))
        expected = stats.kendalltau(first, second).statistic
        assert agreement.tau(first, second) == pytest.approx(expected)


def test_tau_within_compares_those_of_the_same_label_alone():
    # Depth 6 in order, depth 9 in order, and depth 9 below depth 6 in one of the two.
    scores, truth, depths = [1, 2, 3, 4, 5], [13, 14, 10, 11, 12], [6, 6, 9, 9, 9]
    assert agreement.tau(scores, truth) == pytest.approx((4 - 6) / 10)
    assert agreement.tau(scores, truth, depths) == 1
    assert math.isnan(agreement.tau(scores, truth, [1, 2, 3, 4, 5]))


def test_seed_tau_is_the_mean_over_pairs_of_seeds():
    # Seeds 0 and 1 agree, seed 2 has the opposite order: (1 - 1 - 1) / 3.
    scores = np.array([[1, 2, 9], [2, 3, 8], [3, 4, 7]], float)
    assert agreement.seed_tau(scores) == pytest.approx(-1 / 3)
    scores[0, 2] = NAN
    assert agreement.seed_tau(scores) == pytest.approx(-1 / 3)
    scores[1:, 2] = NAN  # No genotype is left on which seed 2 can be compared.
    assert agreement.seed_tau(scores) == 1


def test_variances_by_hand():
    # Means 2, 4 and 6, seeds 1 off: within 2 + 2 + 2 of 3 degrees of freedom, so 2;
    # between 2 * (4 + 0 + 4) / 2 = 8, which is the noise and twice the variance: 3.
    scores = np.array([[1, 3], [3, 5], [5, 7]], float)
    found = agreement.variances(scores)
    assert found == pytest.approx((3, 2, 2, 3, 2))
    assert found.icc.value == pytest.approx(3 / 5)


def test_variances_with_unequal_numbers_of_seeds():
    # Means 2 and 5 of 3 and 1 seeds, about 2.75: 3 * 0.75**2 + 2.25**2 = 6.75 of one
    # degree; noise 2 / 2; seeds (4 - (9 + 1) / 4) / 1 = 1.5; so (6.75 - 1) / 1.5.
    scores = np.array([[1, 2, 3], [5, NAN, NAN], [NAN, NAN, NAN]])
    found = agreement.variances(scores)
    assert found == pytest.approx((5.75 / 1.5, 1, 1, 2, 1.5))


def test_variances_within_leave_out_what_the_labels_explain():
    # Without the label's means, 2 and 22, the genotypes are one off: as 1, 3, 1, 3 with
    # noise 0, of four genotypes less two labels.
    scores = np.repeat([[1.0], [3], [21], [23]], 2, axis=1)
    found = agreement.variances(scores, [6, 6, 9, 9])
    # 2 * (1 + 1 + 1 + 1) / 2 = 4, by two seeds.
    assert found == pytest.approx((2, 0, 2, 4, 2))
    # A label with one genotype says nothing about the genotypes.
    alone = np.concatenate([scores, [[99, 99]]])
    found = agreement.variances(alone, [6, 6, 9, 9, 12])
    assert found == pytest.approx((2, 0, 2, 5, 2))


@pytest.mark.parametrize("scores", [[[1, NAN], [2, NAN]], [[1, 2]]])
def test_variances_that_nobody_can_tell(scores):
    found = agreement.variances(np.array(scores, float))
    assert math.isnan(found.between) and math.isnan(found.icc.value)


def test_icc_of_seeds_that_agree_is_one_and_of_noise_about_zero():
    rng = np.random.default_rng(0)
    genotypes = rng.normal(size=(400, 1))
    same = np.repeat(genotypes, 3, axis=1)
    assert agreement.variances(same).icc == (1, 1, 1)
    noise = agreement.variances(rng.normal(size=(400, 3))).icc
    assert noise.low < 0 < noise.high and abs(noise.value) < 0.1
    # Variance 1 of the genotypes and 1 / 4 of the seeds.
    icc = agreement.variances(same + rng.normal(size=same.shape) / 2).icc
    assert icc.low < 0.8 < icc.high and icc.high - icc.low < 0.1


def test_interval_of_the_icc_by_the_tables_of_f():
    # F = 1 + 2 * 3 / 2 = 4 with 2 and 3 degrees of freedom, whose F(0.975) are 16.04,
    # and 39.17 the other way round. (F - 1) / (F + 1) at 4 / 16.04 and 4 * 39.17.
    icc = agreement.variances(np.array([[1, 3], [3, 5], [5, 7]], float)).icc
    assert icc.low == pytest.approx((0.2494 - 1) / (0.2494 + 1), abs=1e-3)
    assert icc.high == pytest.approx((156.7 - 1) / (156.7 + 1), abs=1e-3)


def test_bootstrap_draws_genotypes_with_all_that_belongs_to_them():
    scores, depths = np.arange(8.0), np.repeat([6, 9], 4)
    found = agreement.estimate(agreement.tau, scores, scores + depths, depths)
    assert found == (1, 1, 1)


def test_bootstrap_interval_of_a_mean():
    # The standard error of a mean of 400 standard normal values is 0.05.
    values = np.random.default_rng(0).normal(size=400)
    found = agreement.estimate(lambda x: float(x.mean()), values)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.05, rel=0.1)
    assert found == agreement.estimate(lambda x: float(x.mean()), values)
    assert found != agreement.estimate(lambda x: float(x.mean()), values, seed=1)


def test_bootstrap_leaves_out_draws_that_say_nothing():
    # Three of nine draws have a single genotype, and so no pair.
    assert agreement.estimate(agreement.tau, [1, 2], [1, 2]) == (1, 1, 1)
    low, high = agreement.estimate(agreement.tau, [1, 1], [1, 2])[1:]
    assert math.isnan(low) and math.isnan(high)


def test_comparison_of_a_good_predictor_with_a_bad_one():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    good, bad = truth + rng.normal(size=60) / 4, rng.normal(size=60)
    found = agreement.compare(good, bad, truth)
    gain = agreement.tau(good, truth) - agreement.tau(bad, truth)
    assert found.gain.value == pytest.approx(gain)
    assert 0 < found.gain.low < gain < found.gain.high and found.p_value == 0
    assert agreement.compare(bad, good, truth).p_value == 1
    # A predictor is not better than itself in any draw.
    assert agreement.compare(good, good, truth) == ((0, 0, 0), 1)
