"""Evolution on problems whose best choices are known."""

from cdnet_tf.strategies import evolution

_TARGET = (3, 1, 4, 1, 5, 9)
_SIZE = {"blocks": 6, "branches": 12, "population": 20, "generations": 15}


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


def test_a_limit_is_kept():
    found = evolution.evolve(
        lambda choice: [_distance(choice)],
        excess=lambda choice: [sum(choice) - 10],
        num_limits=1,
        seed=1,
        **_SIZE,
    )
    # Four of its blocks can be had: 3, 1, 4, 1.
    assert all(sum(choice) <= 10 and _distance(choice) <= 3 for choice in found)
