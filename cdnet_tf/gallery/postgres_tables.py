"""The tables of a gallery in PostgreSQL, and the SQL statements about them.

    cdnet_gallery    one row: format, network, dimensions, retention
    cdnet_rows       the rows, in one partition a week of their time
    cdnet_keys       the key of each row: a partitioned table can only promise that a
                     key is unique within a partition
    cdnet_unerased   tables that hold the bytes of deleted rows, and since when

The tables stand in the first schema of the connection's search path.
"""

from __future__ import annotations

import datetime

from cdnet_tf.gallery.records import Where

_WEEK = datetime.timedelta(days=7)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
# A larger embedding does not fit on a page of 8 kB and is stored beside the table.
_PLAIN_DIMENSIONS = 1800

SETTINGS = """
CREATE TABLE IF NOT EXISTS cdnet_gallery (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    format integer NOT NULL,
    network text,
    checksum text,
    dimensions integer,
    retention_days integer
);
CREATE TABLE IF NOT EXISTS cdnet_unerased (
    id bigserial PRIMARY KEY,
    name text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
"""

# Deletes rows and their keys, notes where their bytes are, and counts them.
DELETE = """
WITH gone AS (
    DELETE FROM cdnet_rows WHERE {condition}
    RETURNING key, tableoid::regclass::text AS name
), freed AS (
    DELETE FROM cdnet_keys USING gone WHERE cdnet_keys.key = gone.key
), noted AS (
    INSERT INTO cdnet_unerased (name)
    SELECT DISTINCT name FROM gone UNION SELECT 'cdnet_keys' FROM gone
)
SELECT count(*) FROM gone
"""

# Finds the partitions of the weeks that begin no later than a date.
OLD = """
SELECT child.oid::regclass::text FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'cdnet_rows'::regclass AND right(child.relname, 8) <= %s
"""

# Finds transactions that began before this one and may still see deleted rows.
WATCHING = """
SELECT pid, application_name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND age(backend_xmin) >= age(%s::xid)
"""

INDEX = "cdnet_rows_embedding"

# The server keeps samples of columns for its planner, even those of deleted rows. None
# are taken of these columns, because it plans by camera and time alone.
_UNSAMPLED = ("key", "embedding", "track", "picture_path", "picture", "metadata")


def rows(dimensions: int) -> str:
    """Returns the statements that create the tables of rows."""
    storage = "PLAIN" if dimensions <= _PLAIN_DIMENSIONS else "EXTERNAL"
    return f"""
CREATE TABLE IF NOT EXISTS cdnet_keys (key text PRIMARY KEY, time timestamptz NOT NULL);
ALTER TABLE cdnet_keys ALTER key SET STATISTICS 0;
CREATE INDEX IF NOT EXISTS cdnet_keys_time ON cdnet_keys (time);
CREATE TABLE IF NOT EXISTS cdnet_rows (
    key text NOT NULL,
    embedding vector({dimensions}) NOT NULL,
    camera text NOT NULL,
    time timestamptz NOT NULL,
    track text,
    picture_path text,
    picture bytea,
    metadata jsonb NOT NULL
) PARTITION BY RANGE (time);
ALTER TABLE cdnet_rows ALTER embedding SET STORAGE {storage};
{_unsampled("cdnet_rows")};
CREATE INDEX IF NOT EXISTS cdnet_rows_key ON cdnet_rows (key);
CREATE INDEX IF NOT EXISTS cdnet_rows_camera ON cdnet_rows (camera, time);
"""


def index(dimensions: int) -> str:
    """Returns the statement that creates the approximate index, of half precision."""
    return f"""
CREATE INDEX IF NOT EXISTS {INDEX} ON cdnet_rows
USING hnsw ((embedding::halfvec({dimensions})) halfvec_l2_ops)
"""


def week(time: datetime.datetime) -> datetime.datetime:
    """Returns the beginning of the partition that a time belongs to."""
    return _EPOCH + (time - _EPOCH) // _WEEK * _WEEK


def partition(start: datetime.datetime) -> tuple[str, str]:
    """Returns the name of a week's partition, and the statement that creates it."""
    name = f"cdnet_rows_{start:%Y%m%d}"
    stop = start + _WEEK
    return name, (
        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF cdnet_rows "
        f"FOR VALUES FROM ('{start.isoformat()}') TO ('{stop.isoformat()}');"
        f"{_unsampled(name)}"
    )


def _unsampled(table: str) -> str:
    changes = ", ".join(f"ALTER {column} SET STATISTICS 0" for column in _UNSAMPLED)
    return f"ALTER TABLE {table} {changes}"


def last_to_drop(until: datetime.datetime) -> str:
    """Returns the date in the name of the last partition that ends by a time."""
    return f"{week(until) - _WEEK:%Y%m%d}"


def condition(where: Where) -> tuple[str, list]:
    """Returns a condition in SQL, and its parameters."""
    parts: list[tuple[str, object]] = []
    for column, values in (
        ("camera", where.cameras),
        ("track", where.tracks),
        ("key", where.keys),
    ):
        if values is not None:
            parts.append((f"{column} = ANY(%s)", list(values)))
    if where.not_cameras:
        parts.append(("camera <> ALL(%s)", list(where.not_cameras)))
    if where.since is not None:
        parts.append(("time >= %s", where.since))
    if where.until is not None:
        parts.append(("time < %s", where.until))
    return " AND ".join(text for text, _ in parts) or "true", [v for _, v in parts]
