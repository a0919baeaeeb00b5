"""Files with one light curve per row, made of FITS files."""

import numpy as np
from astropy.io import fits

from transit_cli.data import bulk

FIXED = {"BJDREFI": 2454833, "TELESCOP": "Kepler"}


def write(folder, file, *, rows_per_group=3, nested=False, **names):
    """The light curves under a folder as one file, in the order of their names; `names` renames columns."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = []
    for path in sorted((folder / "curves").rglob("*.fits")):
        with fits.open(path) as content:
            table = content[1]
            native = {c.name: np.array(table.data[c.name]).astype(c.dtype.newbyteorder("=")) for c in table.columns}
            row = native | {"kepid": content[0].header["KEPLERID"]} | FIXED
        rows.append({names.get(name, name): value for name, value in row.items() if names.get(name, name)})
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    if nested:
        lists = [name for name in table.column_names if bulk.is_list(table.schema.field(name).type)]
        inner = pa.StructArray.from_arrays([table[name].combine_chunks() for name in lists], lists)
        table = table.drop_columns(lists).append_column("lightcurve", inner)
    parquet.write_table(table, file, row_group_size=rows_per_group)
    return file
