"""Read from a macOS arm64 libtorch_cpu.dylib which operators it registers for MPS, without running it.

The library is not stripped. Each `TORCH_LIBRARY_IMPL(aten, MPS, m)` is a function named
`TORCH_LIBRARY_IMPL_init_aten_MPS_...`; the operators' names are C strings whose addresses it loads with a pair of
instructions, `adrp` (page) and `add` (offset). Collecting those strings gives the registrations.
"""

from __future__ import annotations

import bisect
import mmap
import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SYMTAB, _SEGMENT_64 = 0x2, 0x19
_INITIALISER = b"TORCH_LIBRARY_IMPL_init_aten_MPS_"
_NAME = re.compile(rb"[A-Za-z_]\w+(\.\w+)?")


def mps_registrations(dylib: Path) -> set[str]:
    """The operators ("add.out") for which the library has an MPS registration, of whatever kind."""
    with dylib.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        sections, symtab = _load_commands(image)
        starts, initialisers = _symbols(image, symtab)
        found: set[str] = set()
        for start in initialisers:
            end = starts[bisect.bisect_right(starts, start)]
            found |= _strings_loaded(image, sections, start, end)
    return found


def _load_commands(image: mmap.mmap) -> tuple[list[tuple[str, int, int, int]], tuple[int, int, int, int]]:
    """Sections as (name, address, size, file offset), and the symbol table's place."""
    count = struct.unpack_from("<I", image, 16)[0]
    offset, sections, symtab = 32, [], (0, 0, 0, 0)
    for _ in range(count):
        command, size = struct.unpack_from("<II", image, offset)
        if command == _SEGMENT_64:
            for index in range(struct.unpack_from("<I", image, offset + 64)[0]):
                at = offset + 72 + 80 * index
                name = image[at : at + 16].rstrip(b"\0").decode()
                address, length, place = struct.unpack_from("<QQI", image, at + 32)
                sections.append((name, address, length, place))
        elif command == _SYMTAB:
            symtab = struct.unpack_from("<IIII", image, offset + 8)
        offset += size
    return sections, symtab


def _symbols(image: mmap.mmap, symtab: tuple[int, int, int, int]) -> tuple[list[int], list[int]]:
    """The addresses of all symbols, sorted, and of those that register operators for MPS."""
    offset, count, strings, size = symtab
    names = image[strings : strings + size]
    starts, initialisers = [], []
    for text, kind, _, _, value in struct.iter_unpack("<IBBHQ", image[offset : offset + 16 * count]):
        if kind & 0xE0 or not value:  # a debugger's entry, or one that is defined elsewhere
            continue
        starts.append(value)
        if names.startswith((b"_", b"__"), text) and _INITIALISER in names[text : names.index(b"\0", text)]:
            initialisers.append(value)
    return sorted(set(starts)), initialisers


def _strings_loaded(image: mmap.mmap, sections: list[tuple[str, int, int, int]], start: int, end: int) -> set[str]:
    code = _file_offset(sections, "__text", start)
    if code is None:
        return set()
    pages: dict[int, int] = {}
    found = set()
    for index, (word,) in enumerate(struct.iter_unpack("<I", image[code : code + end - start])):
        address = start + 4 * index
        if word & 0x9F000000 == 0x90000000:  # adrp: a register gets the address of a page
            distance = ((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3) << 12
            distance -= (distance & 1 << 32) << 1
            pages[word & 31] = (address & ~0xFFF) + distance
        elif word & 0xFFC00000 == 0x91000000 and word >> 5 & 31 in pages:  # add: and this the offset in it
            place = _file_offset(sections, "__cstring", pages[word >> 5 & 31] + (word >> 10 & 0xFFF))
            if place is not None:
                text = image[place : image.find(b"\0", place)].removeprefix(b"aten::")
                if _NAME.fullmatch(text):
                    found.add(text.decode())
    return found


def _file_offset(sections: list[tuple[str, int, int, int]], section: str, address: int) -> int | None:
    for name, start, size, place in sections:
        if name == section and start <= address < start + size:
            return place + address - start
    return None
