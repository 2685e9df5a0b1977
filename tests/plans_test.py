"""The numbers of genotypes that are trained, and the order of their trainings."""

import collections
import itertools

from cdnet_tf.bench import plans
from cdnet_tf.nn import genotype


def _depths(runs):
    """Counts the genotypes of each depth."""
    return collections.Counter(g.depth for g in {run.genotype for run in runs})


def test_pilot_spans_the_depths_and_has_six_of_one():
    runs = plans.pilot([20])
    assert _depths(runs) == {9: 6, 6: 1, 7: 1, 8: 1, 10: 1, 11: 1, 12: 1}
    seeds = collections.Counter(run.seed for run in runs)
    assert seeds == {0: 12, 1: 12, 2: 12} and len(set(runs)) == 36


def test_bench_has_half_of_one_depth_and_half_with_two_seeds():
    runs = plans.bench([20])
    # Of 64 drawn ones 32 are of depth 9; CNet is of depth 6, CDNet and its v35 of 9.
    assert _depths(runs) == {9: 34, 6: 6, 7: 5, 8: 6, 10: 6, 11: 5, 12: 5}
    seeds = collections.Counter(run.seed for run in runs)
    assert seeds == {0: 67, 1: 34} and len(set(runs)) == 101
    first = [run.genotype for run in runs[:3]]
    assert first == [genotype.load(name) for name in ("cnet", "cdnet", "cdnet_v35")]


def test_pilots_trainings_belong_to_the_bench():
    pilot = {run for run in plans.pilot([20]) if run.seed < 2}
    assert pilot < set(plans.bench([20]))


def test_drawing_can_be_repeated_and_gone_on_with():
    assert plans.drawn(40) == plans.drawn(40) == plans.drawn(64)[:40]
    assert plans.drawn(40) != plans.drawn(40, seed=1)
    # Of depth 6 there are 6**6 genotypes, so many that some would come twice.
    many = plans.drawn(3000)
    assert len(set(many)) == 3000
    assert not {genotype.load(name) for name in plans.PUBLISHED} & set(many)


def test_of_one_depth_every_branch_of_every_block_is_as_likely():
    nine = [g for g in plans.drawn(4000) if g.depth == 9]
    for layer in range(genotype.NUM_BLOCKS):
        used = collections.Counter(g.layers[layer] for g in nine)
        # 2,000 over 12 branches: 167, with a standard deviation of 12.
        assert len(used) == 12 and all(110 < n < 225 for n in used.values())


def test_what_is_cut_short_is_balanced():
    runs = plans.bench([60, 20, 20])
    passes = [key for key, _ in itertools.groupby(runs, lambda run: run[1:])]
    assert passes == [(0, 20), (1, 20), (0, 60), (1, 60)]
    depths = [run.genotype.depth for run in runs[3:15]]
    assert depths[::2] == [9] * 6 and sorted(depths[1::2]) == [6, 7, 8, 10, 11, 12]


def test_networks_of_ones_own_with_seeds_of_ones_own():
    runs = plans.of_genotypes(plans.drawn(2) * 2, [100, 7], [60, 20])
    first, second = plans.drawn(2)
    assert [run[1:] for run in runs[::2]] == [(7, 20), (100, 20), (7, 60), (100, 60)]
    assert [run.genotype for run in runs] == [first, second] * 4
