"""The model card of shipped weights, written from their record alone.

A card says where the weights come from, what they can and cannot do, and what they must
not be used for. All its numbers are in the record, too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_DATA = {
    "market1501": """\
Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)
shows 1,501 people before a supermarket on one campus, seen by six cameras. Its authors
offer it **for academic research only**, and we know of no statement that the people
shown agreed to it. The package holds none of its images. These weights were made from
it for research: keep to the data set's terms, and take other data for a product.""",
}
_USE = """\
Research and teaching: a baseline to compare with; a network of known accuracy to try an
export, a runtime or a device with; and a start for training on data that you may use:

    python -m cdnet_tf.train --init_from={name} ..."""
_MISUSE = """\
- Do not identify, follow or watch people who have not agreed to it, and do not look for
  one person among the public. In many places the law forbids that.
- Do not take a decision about a person - access, arrest, pay, insurance - from a match.
- Do not use it commercially: the terms of the data set do not allow it.
- It does not recognise faces and does not tell who somebody is. It says how alike two
  images of clothed people are."""
_SAME = """\
Two images are taken for the same person if the Euclidean distance of their embeddings,
each divided by its norm, is below a threshold. The rates are of pairs from different
cameras of the test images, and no image was mirrored. Your cameras need their own."""
_NOT_MEASURED = """\
- Clothes decide most of it. A person who changes clothes is another person to it, and
  two people in the same uniform are one.
- It was trained and tested on the same six cameras. Expect much lower scores on others,
  at night, in winter clothes or from above; that was not measured here.
- Nothing was measured by age, sex, skin colour or disability. The data set's
  files do not say them, and they show the people of one campus."""


def compose(record: Mapping[str, Any]) -> str:
    """Returns the card of a record that `shipping.ship` makes.

    Raises:
      ValueError: the terms of the record's data set are not known here.
    """
    dataset = record["provenance"]["dataset"]["name"]
    if dataset not in _DATA:
        raise ValueError(
            f"dataset={dataset} has no terms in a model card; it knows those of "
            f"{', '.join(_DATA)}. Add them before you ship weights that came from it."
        )
    sections = {
        f"{record['name']}": _head(record),
        "Data and terms": f"{_DATA[dataset]}\n\n{_counts(record)}",
        "Recipe": _recipe(record),
        "Results": _results(record),
        "By pair of cameras": _cameras(record["camera_pairs"]),
        "Same person?": _thresholds(record),
        "Known weaknesses": f"{_weaknesses(record)}\n{_NOT_MEASURED}",
        "Intended use": _USE.format(name=record["name"]),
        "Misuse": _MISUSE,
        "Files": _files(record),
    }
    parts = [
        f"{'##' if number else '#'} {title}\n\n{text}\n"
        for number, (title, text) in enumerate(sections.items())
    ]
    return "\n".join(parts)


def _head(record: Mapping[str, Any]) -> str:
    scores = record["scores"]
    said = f"""\
Person re-identification: an image of one person, {record["height"]}x{record["width"]}
pixels, to an embedding of {record["dimensions"]} numbers. Rank-1
{scores["rank1"]:.1%}, mAP {scores["mean_ap"]:.1%} on the whole test set."""
    return f"""\
{_filled(said)}

{_table(("network", "width", "parameters", "multiply-accumulates"), [_facts(record)])}

    python -m cdnet_tf.evaluate --model={record["name"]} --data_dir=DIR"""


def _facts(record: Mapping[str, Any]) -> Sequence[str]:
    network, layers = record["network"], record["genotype"]
    if layers and not network.startswith("("):
        branches = " ".join(f"({','.join(map(str, layer))})" for layer in layers)
        network = f"{network}: {branches}"
    width = f"{record['width_multiplier']:g}"
    return network, width, f"{record['parameters']:,}", f"{record['macs']:,}"


def _counts(record: Mapping[str, Any]) -> str:
    counts = record["provenance"]["dataset"]["counts"]
    said = [
        f"{part['images']:,} images of {part['identities']:,} people in {split}"
        for split, part in counts.items()
    ]
    return _filled(f"As it was read: {'; '.join(said)}.")


def _recipe(record: Mapping[str, Any]) -> str:
    provenance = record["provenance"]
    flags = [
        f"--{name}={_flag(value)}"
        for name, value in provenance["flags"].items()
        if value is not None
    ]
    commit = provenance.get("commit") or "unknown"
    if provenance.get("uncommitted_changes"):
        commit += ", with uncommitted changes"
    versions = provenance.get("versions", {})
    lines = " \\\n    ".join(["python -m cdnet_tf.train", *flags])
    said = f"""\
Commit {commit}; TensorFlow {versions.get("tensorflow")}, Python
{versions.get("python")}. No test image was trained on."""
    return f"""\
{_filled(said)}

```
{lines}
```"""


def _flag(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f'"{value}"' if " " in str(value) else str(value)


def _results(record: Mapping[str, Any]) -> str:
    columns = ("rank-1", "rank-5", "rank-10", "mAP", "mINP", "MB")
    keys = ("rank1", "rank5", "rank10", "mean_ap", "mean_inp")
    rows = [
        (
            file,
            *(f"{scores[key]:.1%}" for key in keys),
            f"{said['bytes'] / 1e6:.2f}",
        )
        for (file, said), scores in zip(
            record["files"].items(), _both(record, "scores"), strict=True
        )
    ]
    int8 = record["int8"]
    export = int8["export"]
    trained = f", {export['qat_epochs']} epochs of quantisation-aware training"
    said = f"""\
Single query, no mirrored images, no re-ranking. The int8 file loses
{int8["map_drop"]:.2f} points of mAP; the cosine of its embedding to the float one is
{int8["cosine_mean"]:.5f} on average and {int8["cosine_min"]:.5f} at least. It was
calibrated on {export["calibration_images"]} training images\
{trained if export["qat_epochs"] else ""}."""
    return f"{_table(('file', *columns), rows)}\n\n{_filled(said)}"


def _cameras(pairs: Iterable[Mapping[str, Any]]) -> str:
    """Makes a table with a row for each query camera, a column for each gallery one."""
    cells = {
        (pair["query_camera"], pair["gallery_camera"]): _cell(pair) for pair in pairs
    }
    if not cells:
        return "Not measured: the data set names no pairs of cameras."
    queries, galleries = (sorted(set(each)) for each in zip(*cells))
    rows = [
        (str(query), *(cells.get((query, each), "") for each in galleries))
        for query in queries
    ]
    table = _table(("query", *map(str, galleries)), rows)
    return f"Keras weights, rank-1 / mAP in per cent.\n\n{table}"


def _cell(pair: Mapping[str, Any]) -> str:
    if pair["rank1"] is None:
        return ""
    return f"{100 * pair['rank1']:.1f} / {100 * pair['mean_ap']:.1f}"


def _thresholds(record: Mapping[str, Any]) -> str:
    rows = []
    for file, found in zip(record["files"], _both(record, "thresholds"), strict=True):
        chosen = [*zip(map("{:.2%}".format, found["rates"]), found["at_rates"])]
        rows += [
            (file, aim, *_threshold(each))
            for aim, each in [*chosen, ("equal error", found["equal_error"])]
        ]
    columns = ("file", "false accepts wanted", "distance", "false accepts", "true ones")
    found = record["thresholds"]
    return f"""\
{_SAME}

{_table(columns, rows)}

There were {found["genuine_pairs"]:,} pairs of one person, {found["impostor_pairs"]:,} \
of two."""


def _threshold(found: Mapping[str, Any]) -> Sequence[str]:
    if found["distance"] is None:
        return "none", found["note"], ""
    return (
        f"{found['distance']:.4f}",
        f"{found['false_accept_rate']:.3%}",
        f"{found['true_accept_rate']:.1%}",
    )


def _weaknesses(record: Mapping[str, Any]) -> str:
    """Lists the weaknesses that the record's own numbers show."""
    lines = [
        f"- {1 - record['scores']['rank1']:.1%} of the queries find somebody else "
        "first, and the hardest image of a person comes late "
        f"(mINP {record['scores']['mean_inp']:.1%})."
    ]
    pairs = [pair for pair in record["camera_pairs"] if pair["rank1"] is not None]
    if pairs:
        worst, best = (pick(pairs, key=lambda p: p["rank1"]) for pick in (min, max))
        lines.append(
            f"- Cameras differ: rank-1 is {worst['rank1']:.1%} from camera "
            f"{worst['query_camera']} to {worst['gallery_camera']}, and "
            f"{best['rank1']:.1%} from {best['query_camera']} to "
            f"{best['gallery_camera']}."
        )
    found = record["thresholds"]
    rate, strictest = min(zip(found["rates"], found["at_rates"]), key=lambda p: p[0])
    if strictest["true_accept_rate"] is not None:
        lines.append(
            f"- At {rate:.2%} false accepts {1 - strictest['true_accept_rate']:.1%} of "
            "the pairs of one person are missed. A rate is per pair: against a gallery "
            f"of 10,000 images it means about {10_000 * rate:.0f} wrong ones a query."
        )
    return "\n".join(_filled(line, "  ") for line in lines)


def _files(record: Mapping[str, Any]) -> str:
    rows = [
        (file, f"{said['bytes']:,}", f"`{said['sha256']}`")
        for file, said in record["files"].items()
    ]
    return _table(("file", "bytes", "SHA-256"), rows)


def _both(record: Mapping[str, Any], key: str) -> list[Any]:
    """Returns what was measured on each of the `files`, in their order."""
    return [record[key], record["int8"][key]]


def _filled(text: str, later: str = "") -> str:
    """Wraps a text, because numbers make its lines longer or shorter."""
    return textwrap.fill(text, 88, subsequent_indent=later, break_on_hyphens=False)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
