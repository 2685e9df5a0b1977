"""Settings refuse what does not fit, before anything is read or built."""

import pytest

from cdnet_tf import settings


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"schedule": "linear"},
            "schedule=linear is unknown; use one of multi_step, c",
        ),
        ({"neck": "x"}, "neck=x is unknown; use one of "),
        ({"stem": "x"}, "stem=x is unknown; use one of reid, cifar"),
        ({"epochs": 100, "milestones": (50, 100)}, "milestones=50,100 .* epochs=100"),
        ({"width": 100}, "256x100 is not divisible by 16"),
    ],
)
def test_training_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        settings.TrainSettings(**values).check()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"space": "x"}, "space=x is unknown; use one of cs, cds"),
        ({"exploration": "x"}, "exploration=x is unknown; use one of none, gumbel"),
        ({"space": "cs", "top_k": 7}, "top_k=7 is out of range"),
        ({"search_strategy": "x"}, "search_strategy=x is unknown; use one of top_k"),
        ({"draw": "x"}, "draw=x is unknown; use one of fair, uniform"),
        (
            {"search_strategy": "random", "select_identities": 0},
            "search_strategy=random compares networks .* select_identities=0 leaves",
        ),
        (
            {"max_macs": 10**6},
            "max_macs=1000000: the paper's rule .* use search_strategy=single_path, r",
        ),
        (
            {"device": "ethos-u65-256", "search_strategy": "top_k"},
            "device=ethos-u65-256: the paper's rule",
        ),
        (
            {"max_ms": 8.0, "search_strategy": "random"},
            "max_ms=8 says milliseconds, but not on which device; add device=ethos",
        ),
        (
            {"width_multipliers": ("a", "1"), "search_strategy": "random"},
            "width_multipliers=a,1: use numbers",
        ),
        (
            {"width_multipliers": ("-1",), "search_strategy": "random"},
            "width_multiplier=-1.0 must be positive",
        ),
    ],
)
def test_search_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        settings.SearchSettings(**values).check()


def test_defaults_fit_each_other():
    settings.TrainSettings().check()
    settings.SearchSettings().check()
    assert settings.TrainSettings(epochs=350).drops == [150, 225, 300]
    assert settings.SearchSettings().milestones == [80, 160]


def test_a_fifth_of_the_people_are_selected_on_where_the_strategy_needs_them():
    for strategy, expected in (("top_k", 0), ("single_path", 150), ("halving", 150)):
        values = settings.SearchSettings(search_strategy=strategy)
        assert values.people_to_select_on(751) == expected
    assert settings.SearchSettings(select_identities=7).people_to_select_on(751) == 7
    few = settings.SearchSettings(search_strategy="random")
    assert few.people_to_select_on(6) == 2


def test_all_is_every_branch_of_the_space():
    assert settings.SearchSettings(space="cs", top_k="all").chosen == 6
    assert settings.SearchSettings(space="cds", top_k="all").chosen == 12


def test_record_leaves_out_what_does_not_change_the_result():
    record = settings.TrainSettings(cache_mb=5, seed=3).record()
    assert record["seed"] == 3 and "cache_mb" not in record


@pytest.mark.parametrize("cache_mb, cache_bytes", [(None, None), (2, 2 * 2**20)])
def test_batch_options_of_people(cache_mb, cache_bytes):
    options = settings.RunSettings(batch_size=32, cache_mb=cache_mb).batch_options(5)
    assert options["identities_per_batch"] == 8
    assert options["first_epoch"] == 5
    assert options["cache_bytes"] == cache_bytes


def test_batch_options_of_classes_have_no_identities():
    options = settings.RunSettings(batch_size=32).batch_options(has_classes=True)
    assert options["batch_size"] == 32 and "images_per_id" not in options
