"""Diagrams have the parts and the sizes that the network has."""

from matplotlib import colors

from cdnet_tf.nn import diagrams, genotype

_CHANNELS = (64, 256, 384, 512)


def _squares(figure, colour):
    """How many boxes have a colour."""
    wanted = colors.to_rgba(colour)
    return sum(patch.get_facecolor() == wanted for patch in figure.axes[0].patches)


def test_a_square_stands_for_each_lite_of_each_cblock():
    found = genotype.load("(3,5,1) (3,7,2) (5,7,2) (5,9,1) (7,9,1) (3,5,2)")
    figure = diagrams.network_figure(found, (256, 128), _CHANNELS, "CDNet")
    # First streams have k // 2 Lites: 1, 1 twice, 2 twice, 2, 3, 1 twice.
    assert _squares(figure, diagrams.FIRST) == 1 + 2 + 4 + 2 + 3 + 2
    # Second streams: 2, 3 twice, 3 twice, 4, 4, 2 twice.
    assert _squares(figure, diagrams.SECOND) == 2 + 6 + 6 + 4 + 4 + 4
    assert _squares(figure, "white") == found.depth == 9


def test_sizes_are_those_of_figure_4():
    found = genotype.load("cdnet")
    figure = diagrams.network_figure(found, (128, 64), _CHANNELS, "CDNet")
    texts = [text.get_text() for text in figure.axes[0].texts]
    sizes = [text for text in texts if text[:1].isdigit()]
    assert sizes == [
        *("128x64x3", "32x16x64"),
        *("32x16x256", "32x16x256", "16x8x256"),
        *("16x8x384", "16x8x384", "8x4x384"),
        *("8x4x512", "8x4x512"),
    ]
    assert figure.axes[0].get_title() == "CDNet"


def test_step_goes_through_algorithm_1_in_order():
    texts = [text.get_text() for text in diagrams.step_figure().axes[0].texts]
    names = [text for text in texts if text in dict(diagrams.STEPS)]
    assert names == ["choose", "weights", "update w", "alpha", "update alpha"]
