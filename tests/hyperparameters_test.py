"""The search space: the meaning of ranges, as flags, by hand."""

import pytest

from cdnet_tf.learn import hyperparameters


@pytest.mark.parametrize(
    "text, expected",
    [
        ("lr=0.01:0.1:log", ("lr", hyperparameters.Interval(0.01, 0.1, log=True))),
        ("dropout=0:5e-1", ("dropout", hyperparameters.Interval(0.0, 0.5))),
        ("x=-1:+1", ("x", hyperparameters.Interval(-1.0, 1.0))),
        ("schedule=cosine", ("schedule", hyperparameters.Choice(("cosine",)))),
        ("parts=0,2", ("parts", hyperparameters.Choice(("0", "2")))),
        ("parts=", ("parts", None)),
    ],
)
def test_ranges(text, expected):
    assert hyperparameters.parse(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("lr", "range='lr' names no flag"),
        ("=1:2", "range='=1:2' names no flag"),
        ("lr=1:x", "range='lr=1:x' is no interval"),
        ("lr=1:2:ln", "is no interval"),
        ("lr=1:2:3", "is no interval"),
        ("lr=1e:2", "is no interval"),
        ("lr=:2", "is no interval"),
        ("lr=2:1", "range='lr=2:1': low must be less than high.$"),
        ("lr=0:1:log", "more than 0 for logarithms"),
        ("parts=1,,2", "empty or repeated value"),
        ("parts=1,1", "empty or repeated value"),
        ("p_x_k=16x1", "p_x_k='16x1' is no batch"),
        ("p_x_k=64", "p_x_k='64' is no batch"),
    ],
)
def test_errors_name_the_range(text, message):
    with pytest.raises(ValueError, match=message):
        hyperparameters.parse(text)


def test_override_replaces_adds_and_leaves_out():
    ranges = ["lr=0.1,0.2", "momentum=0.8:0.9", "parts="]
    found = hyperparameters.override(hyperparameters.TRAIN, ranges)
    assert found["lr"] == hyperparameters.Choice(("0.1", "0.2"))
    assert found["momentum"] == hyperparameters.Interval(0.8, 0.9)
    assert set(found) == {*hyperparameters.TRAIN, "momentum"} - {"parts"}
    assert "momentum" not in hyperparameters.TRAIN
    with pytest.raises(ValueError, match="nothing to tune"):
        hyperparameters.override({"lr": hyperparameters.Interval(0, 1)}, ["lr="])


def test_values_become_flags():
    values = {"lr": 0.0123456, "l2": 5e-5, "schedule": "cosine", "p_x_k": "8x4"}
    assert hyperparameters.as_flags(values) == {
        "lr": "0.01235",
        "l2": "5e-05",
        "schedule": "cosine",
        "batch_size": "32",
        "images_per_id": "4",
    }


_STEPS, _COSINE = {"schedule": "multi_step"}, {"schedule": "cosine"}
_TEN = {"epochs": "10"}
_WARMUP = {"exploration": "uniform_warmup"}


@pytest.mark.parametrize(
    "program, said, drawn, expected",
    [
        # The programs' own defaults move with the epochs.
        ("train", {}, {"epochs": "35"}, {}),
        ("search", {}, {"epochs": "24"}, {}),
        # The recipe's: 40 of 50 epochs.
        ("train", {"milestones": "40"}, {"epochs": "10"}, {"milestones": "8"}),
        ("train", {"milestones": "40"}, _STEPS, {"milestones": "40"}),
        ("train", {"milestones": "40,49"}, {"epochs": "10"}, {"milestones": "8,9"}),
        ("train", {"milestones": "40"}, {"epochs": "1"}, {"milestones": ""}),
        ("search", {"alpha_milestones": "20"}, _TEN, {"alpha_milestones": "4"}),
        ("train", {"milestones": ""}, {"epochs": "10"}, {}),
        # Where they do not count, or the trial is as long as the recipe.
        ("train", _COSINE, {"epochs": "10"}, {}),
        ("train", _STEPS, _COSINE, {}),
        ("train", {"milestones": "40"}, {"lr": "1"}, {}),
        # Warm-ups.
        (
            "train",
            {"lr_warmup_epochs": "5", **_COSINE},
            {"epochs": "20"},
            {"lr_warmup_epochs": "2"},
        ),
        ("search", {}, _WARMUP, {"warmup_epochs": "4"}),
        ("search", {"warmup_epochs": "30"}, _WARMUP, {"warmup_epochs": "30"}),
        (
            "search",
            {"warmup_epochs": "49", "alpha_milestones": "", **_WARMUP},
            {"epochs": "2"},
            {"warmup_epochs": "1"},
        ),
        ("search", _WARMUP, {"exploration": "gumbel"}, {}),
    ],
)
def test_what_counts_epochs_keeps_its_share(program, said, drawn, expected):
    assert hyperparameters.in_epochs(program, said, drawn, whole=50) == expected


def test_recipe_and_what_is_next_to_it():
    domains: hyperparameters.Space = {
        "lr": hyperparameters.Interval(0.1, 1),
        "l2": hyperparameters.Interval(0.1, 1, log=True),
        "schedule": hyperparameters.Choice(("cosine", "exponential")),
        "p_x_k": hyperparameters.Choice(("4x2", "2x4")),
    }
    said = {"lr": 0.5, "l2": 0.0, "schedule": "multi_step", "epochs": 9}
    texts = hyperparameters.of_recipe(
        domains, {**said, "batch_size": 8, "images_per_id": 4}
    )
    assert texts == {"lr": "0.5", "l2": "0.0", "schedule": "multi_step", "p_x_k": "2x4"}
    assert hyperparameters.nearest(domains, texts) == {
        "lr": 0.5,
        "l2": 0.1,
        "schedule": "cosine",
        "p_x_k": "2x4",
    }


def test_corners_are_both_ends_and_every_choice():
    domains = {
        "lr": hyperparameters.Interval(0.1, 1),
        "p_x_k": hyperparameters.Choice(("2x2", "4x2")),
    }
    assert hyperparameters.corners(domains) == [
        "--lr=0.1",
        "--lr=1",
        "--batch_size=4",
        "--images_per_id=2",
        "--batch_size=8",
        "--images_per_id=2",
    ]
