"""What a store alone can do: the rows that a drain left, written once more by its own SQL, without anybody between."""

import time

from parts import Failed, run

# Of conversions and log, in one transaction; as many as Postern's batches hold.
BATCH = 1000
TABLES = {"conversions": "conversion_id", "postback_log": "request_id"}


def alone(stage, count):
    """Postbacks per second of a single session whose transactions write `count` postbacks' conversions and log rows."""
    asks = stage.site.sql if stage.postgres else lambda text: lite(stage, text)
    columns = {}
    for table, key in TABLES.items():
        names = (
            f"SELECT string_agg(column_name, ', ') FROM information_schema.columns WHERE table_name = '{table}'"
            if stage.postgres
            else f"SELECT group_concat(name, ', ') FROM pragma_table_info('{table}')"
        )
        columns[table] = asks(names)
        # In the order of time, as Postern writes them; of each a share of a batch.
        asks(f"CREATE TABLE kept_{table} AS SELECT row_number() OVER (ORDER BY {key}) AS place, o.* FROM {table} o;"
             f"CREATE INDEX kept_{table}_place ON kept_{table} (place);"
             + (f"TRUNCATE {table}" if stage.postgres else f"DELETE FROM {table}"))
    batches = -(-count // BATCH)
    sizes = {table: int(asks(f"SELECT count(*) FROM kept_{table}")) / batches for table in TABLES}
    script = ["CHECKPOINT;"] if stage.postgres else SETTINGS[:]
    for number in range(batches):
        script.append("BEGIN;")
        for table in TABLES:
            low, high = round(number * sizes[table]), round((number + 1) * sizes[table])
            script.append(f"INSERT INTO {table} ({columns[table]}) SELECT {columns[table]} FROM kept_{table} "
                          f"WHERE place > {low} AND place <= {high};")
        script.append("COMMIT;")
    path = stage.site.dir / "alone.sql"
    path.write_text("\n".join([*script, ""]))
    begin = time.monotonic()
    if stage.postgres:
        run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", path, stage.site.env["POSTERN__STORE__URL"])
    else:
        with open(path, "rb") as source:
            run("sqlite3", "-bail", stage.site.dir / "postern.db", stdin=source)
    seconds = time.monotonic() - begin
    written = int(asks("SELECT count(*) FROM postback_log"))
    if written != count:
        raise Failed(f"{written} log rows of {count}")
    return count / seconds


# As Postern sets its connection.
SETTINGS = [
    "PRAGMA synchronous = NORMAL;",
    "PRAGMA cache_size = -65536;",
    "PRAGMA wal_autocheckpoint = 16384;",
    "PRAGMA temp_store = MEMORY;",
]


def lite(stage, text):
    return run("sqlite3", "-bail", stage.site.dir / "postern.db", text).strip()
