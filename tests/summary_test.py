"""The summary of a table whose agreements are known."""

from cdnet_tf.bench import plans, summary, table


def _entry(genotype, seed, epochs, test_map):
    scores = {name: test_map for name in table.COLUMNS if name.endswith(("1", "mAP"))}
    sizes = {"depth": genotype.depth, "parameters": 1000, "macs": 1000}
    rest = {"people": 301, "minutes": 1.0, "train_accuracy": 90.0, "flags": "--a=1"}
    return table.Entry(
        genotype=genotype, seed=seed, epochs=epochs, **scores, **sizes, **rest
    )


def test_summary_says_what_seeds_and_lengths_agree_on():
    # Seeds agree; after 60 epochs the order is that of 20 epochs turned round; of two
    # networks of one depth, too. Deeper is better after 60 epochs.
    genotypes = sorted(plans.drawn(8), key=lambda g: g.depth)
    assert [g.depth for g in genotypes] == [7, 8, 9, 9, 9, 9, 10, 11]
    entries = [
        _entry(g, seed, epochs, 40 + sign * i)
        for epochs, sign in ((20, -1), (60, 1))
        for i, g in enumerate(genotypes)
        for seed in range(2)
    ]
    short, long = summary.text(entries).split("\n\n### ")
    assert short.startswith("### 20 epochs, 301 people\n\n16 trainings of 8 genotypes")
    assert "Mean test mAP from 33.0 to 40.0 %; standard deviation between" in short
    assert "between genotypes 2.45, between seeds 0.00." in short
    for row in (
        "| ICC of test mAP | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |",
        "| tau of seeds, select mAP | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |",
        "| tau of test mAP after 20 epochs with test mAP | -1.00 (-1.00 to -1.00) "
        "| -1.00 (-1.00 to -1.00) |",
        "| tau of parameters with test mAP | - | - |",  # all the same here
    ):
        assert row in long
    # 22 of 28 pairs differ in depth: 22 / sqrt(22 * 28).
    assert "| tau of depth with test mAP | 0.89 (" in long
    assert "after 20 epochs" not in short
