"""Settings of a training refuse what does not fit, before anything is read or built."""

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


def test_defaults_fit_each_other():
    settings.TrainSettings().check()
    assert settings.TrainSettings(epochs=350).drops == [150, 225, 300]


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
