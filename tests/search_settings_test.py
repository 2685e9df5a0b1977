"""Settings of a search refuse what does not fit, before anything is read or built."""

import pytest

from cdnet_tf.search_settings import SearchSettings


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
        SearchSettings(**values).check()


def test_defaults_fit_each_other():
    SearchSettings().check()
    assert SearchSettings().milestones == [80, 160]


def test_a_fifth_of_the_people_are_selected_on_where_the_strategy_needs_them():
    for strategy, expected in (("top_k", 0), ("single_path", 150), ("halving", 150)):
        values = SearchSettings(search_strategy=strategy)
        assert values.people_to_select_on(751) == expected
    assert SearchSettings(select_identities=7).people_to_select_on(751) == 7
    few = SearchSettings(search_strategy="random")
    assert few.people_to_select_on(6) == 2


def test_all_is_every_branch_of_the_space():
    assert SearchSettings(space="cs", top_k="all").chosen == 6
    assert SearchSettings(space="cds", top_k="all").chosen == 12
