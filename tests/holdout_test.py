"""The split compared with the protocol's rules, and small cases by hand."""

import dataclasses
import warnings

import numpy as np
import pytest

from cdnet_tf.data import datasets, holdout


def _images(rows):
    identities, cameras = np.array(rows, np.int32).T
    paths = tuple(f"{i:03d}_{p}_c{c}.jpg" for i, (p, c) in enumerate(rows))
    return datasets.Images(paths, identities, cameras)


def _dataset(rows):
    test = _images([(90, 1), (90, 2)])
    return datasets.ReidDataset("market1501", "", _images(rows), test, test)


def _rows(images):
    return list(zip(images.identities.tolist(), images.cameras.tolist()))


@pytest.fixture(scope="module")
def data():
    """Makes 20 people, each seen 1 to 4 times by each of 1 to 4 cameras."""
    rng = np.random.default_rng(5)
    rows = [
        (person, camera)
        for person in range(20)
        for camera in range(1, 2 + person % 4)
        for _ in range(rng.integers(1, 5))
    ]
    return _dataset(rows)


def test_every_image_stands_in_one_split_and_no_test_image_in_any(data):
    split = holdout.hold_out(data, 6)
    parts = split.train.paths + split.query.paths + split.gallery.paths
    assert sorted(parts) == sorted(data.train.paths)
    for part in (split.train, split.query, split.gallery):
        for path, identity, camera in zip(part.paths, part.identities, part.cameras):
            assert path[4:] == f"{identity}_c{camera}.jpg"


@pytest.mark.parametrize("seed", range(5))
def test_every_query_has_a_match_under_another_camera(data, seed):
    split = holdout.hold_out(data, 6, seed)
    held = set(split.query.identities)
    assert len(held) == 6
    assert held == set(split.gallery.identities)
    assert not held & set(split.train.identities)
    gallery = _rows(split.gallery)
    for person, camera in _rows(split.query):
        assert any(p == person and c != camera for p, c in gallery)
    # One query a person and camera at most, as in Market-1501.
    assert len(set(_rows(split.query))) == len(split.query)


def test_by_hand():
    # Person 1: camera 1 three times, camera 2 twice: each gives one to the query.
    # Person 2: camera 1 twice, camera 3 once: camera 1 gives one.
    # Person 3: each camera once: one of the two is the query.
    rows = [(1, 1)] * 3 + [(1, 2)] * 2 + [(2, 1)] * 2 + [(2, 3)] + [(3, 1), (3, 2)]
    # Persons 4 and 5 were seen by one camera and cannot be held out.
    split = holdout.hold_out(_dataset([*rows, (4, 1), (4, 1), (5, 2)]), 3)
    query, gallery = _rows(split.query), _rows(split.gallery)
    assert query[:3] == [(1, 1), (1, 2), (2, 1)] and query[3] in [(3, 1), (3, 2)]
    assert gallery[:5] == [(1, 1), (1, 1), (1, 2), (2, 1), (2, 3)]
    assert {query[3], gallery[5]} == {(3, 1), (3, 2)}
    assert _rows(split.train) == [(4, 1), (4, 1), (5, 2)]


def test_seed_decides(data):
    first, again, other = (holdout.hold_out(data, 6, seed) for seed in (1, 1, 2))
    assert first.query.paths == again.query.paths
    assert first.gallery.paths == again.gallery.paths
    assert set(first.query.identities) != set(other.query.identities)


def _in_families(data, sizes):
    """Divides the people of `data` in ascending order into families of these sizes."""
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    people = np.unique(data.train.identities).tolist()
    return dataclasses.replace(data, families=dict(zip(people, numbers.tolist())))


def _people(rows):
    return np.unique(rows.identities).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_families_are_held_out_whole(seed):
    data = _in_families(_dataset([(p, c) for p in range(12) for c in (1, 2)]), [4] * 3)
    split = holdout.hold_out(data, 4, seed)
    first = _people(split.query)[0]
    assert first % 4 == 0
    family = list(range(first, first + 4))
    assert _people(split.query) == _people(split.gallery) == family
    assert not set(_people(split.train)) & set(family)
    # A number that is not whole families is rounded up, to the same people.
    with pytest.warns(UserWarning, match="holdout_identities=3 .* 4 people are held"):
        rounded = holdout.hold_out(data, 3, seed)
    assert rounded.query.paths == split.query.paths


def test_a_family_of_which_one_camera_saw_a_member_stays():
    # Persons 0 to 3 are a family; person 2 was seen by camera 1 only.
    rows = [(p, c) for p in range(12) for c in (1, 2) if (p, c) != (2, 2)]
    data = _in_families(_dataset(rows), [4, 4, 4])
    split = holdout.hold_out(data, 8)
    assert _people(split.query) == list(range(4, 12))
    with pytest.raises(ValueError, match="of 12 .* 8 were seen .* use 2 to 8"):
        holdout.hold_out(data, 9)


def test_whole_families_that_leave_nobody_to_train_on_are_refused():
    data = _in_families(_dataset([(p, c) for p in range(7) for c in (1, 2)]), [3, 4])
    with pytest.raises(ValueError, match="=5 makes 7 in whole families .* use fewer"):
        holdout.hold_out(data, 5)


def test_people_without_a_family_go_alone():
    data = _dataset([(p, c) for p in range(7) for c in (1, 2)])
    data = dataclasses.replace(data, families={0: 4, 1: 4})
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = _people(holdout.hold_out(data, 2, seed).query)
        # Two others, the siblings, or one other and the siblings.
        assert (0 in held) == (1 in held)
        assert len(held) == 2 or len(held) == 3 and 0 in held


@pytest.mark.parametrize("identities", [1, 16, 21])
def test_numbers_out_of_range_are_named(data, identities):
    # A quarter of the 20 people were seen by one camera.
    message = f"holdout_identities={identities} is out of range: of 20 .* use 2 to 15"
    with pytest.raises(ValueError, match=message):
        holdout.hold_out(data, identities)


@pytest.mark.parametrize("seed", range(3))
def test_divided_people_are_in_one_group_alone(data, seed):
    select, test = holdout.divide(data, 5, 4, 6, seed)
    groups = [_people(part) for part in (select.train, select.query, test.query)]
    assert [len(group) for group in groups] == [5, 4, 6]
    assert len(set().union(*groups)) == 15
    assert select.train.paths == test.train.paths
    for split in (select, test):
        assert _people(split.gallery) == _people(split.query)
        gallery = _rows(split.gallery)
        for person, camera in _rows(split.query):
            assert any(p == person and c != camera for p, c in gallery)
        # Every image of these people, in query or gallery.
        held = np.isin(data.train.identities, split.query.identities)
        paths = sorted(split.query.paths + split.gallery.paths)
        assert paths == sorted(data.train.take(held).paths)


def test_who_is_tested_does_not_depend_on_how_many_are_trained_on(data):
    first, second = (holdout.divide(data, train, 4, 6)[1] for train in (5, 8))
    assert _people(first.query) == _people(second.query)
    other = holdout.divide(data, 5, 4, 6, seed=1)[1]
    assert _people(first.query) != _people(other.query)


@pytest.mark.parametrize("seed", range(3))
def test_families_are_divided_whole(seed):
    data = _in_families(_dataset([(p, c) for p in range(24) for c in (1, 2)]), [4] * 6)
    select, test = holdout.divide(data, 7, 4, 6, seed)
    groups = [_people(part) for part in (select.train, select.query, test.query)]
    families = [[person // 4 for person in group] for group in groups]
    # 7 and 6 people are drawn as two families of four.
    assert [len(own) for own in families] == [8, 4, 8]
    assert len(set().union(*families)) == sum(len(set(own)) for own in families) == 5


@pytest.mark.parametrize(
    "numbers, message",
    [
        ((5, 4, 16), "16 test people .* 15 of whom .* 15 are left; use 2 to 15, or"),
        ((5, 1, 6), "1 select people .* 9 are left; use 2 to 9, or fewer others .test"),
        ((11, 4, 6), "11 train people .* 10 are left; .* fewer others .test, select"),
    ],
)
def test_too_few_people_to_divide_are_named(data, numbers, message):
    with pytest.raises(ValueError, match=message):
        holdout.divide(data, *numbers)


def test_a_part_of_the_test_set_holds_whole_people():
    # People 1 to 9, three images each; two of nobody who is asked for.
    query = _images([(person, 1) for person in range(1, 10)])
    rows = [(person, camera) for person in range(1, 10) for camera in (2, 3)]
    gallery = _images([*rows, (0, 2), (0, 3)])
    data = datasets.ReidDataset("market1501", "", query, query, gallery)
    some, others = holdout.whole_people(data, 10, seed=0)
    # Four people are the fewest with 10 images.
    assert len(some) == 4
    assert _rows(others) == [row for row in rows if row[0] in some.identities]
    again = holdout.whole_people(data, 10, seed=0)
    assert again[0].paths == some.paths
    assert len(holdout.whole_people(data, 1000)[1]) == 18
