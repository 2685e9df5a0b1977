"""Evolution on problems whose best choices are known."""

from cdnet_tf.strategies import evolution

_TARGET = (3, 1, 4, 1, 5, 9)
_SIZE = {"sizes": [12] * 6, "population": 20, "generations": 15}


def _distance(choice):
    return sum(a != b for a, b in zip(choice, _TARGET))


def test_evolution_finds_the_best_of_three_million():
    judged = []

    def objectives(choice):
        judged.append(choice)
        return [_distance(choice)]

    assert evolution.evolve(objectives, seed=1, **_SIZE) == [_TARGET]
    assert len(judged) == 20 * 15
    assert all(0 <= branch < 12 for choice in judged for branch in choice)


def test_evolution_depends_on_its_seed_alone():
    def judged(seed):
        found = []
        evolution.evolve(
            lambda choice: found.append(choice) or [_distance(choice)],
            seed=seed,
            **_SIZE,
        )
        return found

    first = judged(1)
    assert judged(1) == first and judged(2) != first


def test_two_objectives_leave_a_front():
    def objectives(choice):
        return _distance(choice), sum(choice)

    front = evolution.evolve(objectives, num_objectives=2, seed=1, **_SIZE)
    scores = sorted(map(objectives, front))
    assert len(scores) > 2
    # Along a front what one objective gains the other loses.
    assert [b for _, b in scores] == sorted((b for _, b in scores), reverse=True)
    assert len({a for a, _ in scores}) == len(scores)


def test_a_limit_is_kept_and_what_breaks_it_is_not_judged():
    judged = []

    def objectives(choice):
        judged.append(choice)
        return [_distance(choice)]

    found = evolution.evolve(
        objectives,
        excess=lambda choice: [sum(choice) - 10],
        num_limits=1,
        seed=1,
        **_SIZE,
    )
    # Four of its blocks can be had: 3, 1, 4, 1.
    assert all(sum(choice) <= 10 and _distance(choice) <= 3 for choice in found)
    assert judged and all(sum(choice) <= 10 for choice in judged)


def test_begins_with_the_generation_that_it_is_given():
    first = [(i,) * 6 for i in range(3)]
    judged = []
    evolution.evolve(
        lambda choice: judged.append(choice) or [_distance(choice)],
        sizes=[12] * 6,
        population=5,
        generations=3,
        seed=1,
        first=first,
    )
    assert judged[:3] == first and 3 < len(judged) <= 13


def test_indices_may_have_different_sizes():
    target = (*_TARGET, 1)
    judged = []

    def objectives(choice):
        judged.append(choice)
        return [sum(a != b for a, b in zip(choice, target))]

    (found,) = evolution.evolve(
        objectives, sizes=[12] * 6 + [2], population=20, generations=15, seed=1
    )
    assert found == target
    assert {choice[6] for choice in judged} == {0, 1}
