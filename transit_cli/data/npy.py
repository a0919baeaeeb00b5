"""Headers of .npy files from outside, checked against the size of the file before memory is allocated."""

from __future__ import annotations

import math
import tokenize
from typing import IO

import numpy as np

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran order, and type of the array in a .npy file; the stream is then at its data.

    Args:
        stream: at the beginning of the file.
        size: of the file in bytes.

    Raises:
        ValueError: it is no .npy file, holds Python objects, or declares more than it has.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"it is of version {version}")
        shape, fortran, dtype = _READERS[version](stream)
    except (tokenize.TokenError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"its header cannot be read: {error}") from None
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"it holds {'Python objects' if dtype.hasobject else 'values of no bytes'}")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= declared <= size:
        raise ValueError(f"its header declares {declared:,} bytes in a file of {size:,}")
    return shape, fortran, dtype
