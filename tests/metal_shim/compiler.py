"""Metal Shading Language to C++, and that to a shared library: once for each source, outside the tree."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.metal_shim.launch import MOST_THREADS, Kernel, Library, Parameter

SOURCES = Path(__file__).with_name("src")
COMPILER = os.environ.get("CXX", "c++")

#: What the hardware tells a thread, in the order of `shim_position` in runtime.cpp; the first six may be vectors.
POSITIONS = (
    "thread_position_in_grid",
    "thread_position_in_threadgroup",
    "threadgroup_position_in_grid",
    "threads_per_threadgroup",
    "threadgroups_per_grid",
    "threads_per_grid",
    "thread_index_in_simdgroup",
    "simdgroup_index_in_threadgroup",
    "thread_index_in_threadgroup",
)
VECTORS = 6

_KERNEL = re.compile(
    r"(?:\[\[\s*max_total_threads_per_threadgroup\s*\(([^\]]*)\)\s*\]\]\s*)?\bkernel\s+void\s+(\w+)\s*\("
)
_DECLARATOR = r"\w+\s*(?:\[[^;\]]*\]\s*)*"
_MEMORY = re.compile(rf"(?<=[;{{}}\n])(\s*)threadgroup\s+((?:\w|::)+)\s+({_DECLARATOR}(?:,\s*{_DECLARATOR})*);")


class Unavailable(Exception):
    """This machine cannot run the shim; the text says why."""


def compile_shader(source: str, *, checks: bool = False, seed: int = 0) -> Library:
    """Compile a Metal source; its kernels are the attributes of what is returned.

    Args:
        source: Metal Shading Language.
        checks: find accesses outside of buffers, races, reads of what nobody has written, undefined behaviour, and
            barriers that not all threads reach; some 20 times slower.
        seed: draws the order in which threads run; 0 is their own.

    Raises:
        SyntaxError: it does not compile, as from torch.
        Unavailable: there is no C++ compiler, or this is not Linux.
    """
    folder = cache()
    text, kernels = translated(source)
    flags = ["-std=gnu++14", "-march=native", "-fPIC", "-g", "-w", "-fno-exceptions", "-fno-rtti", "-fno-math-errno"]
    flags += ["-ffp-contract=off", *(["-O1", "-fsanitize=thread,undefined", "-DSHIM_CHECKS"] if checks else ["-O2"])]
    path = folder / f"{_digest(text, *flags, (SOURCES / 'metal_shim.h').read_text())}.so"
    if not path.exists():
        unit, built, linked = (path.with_suffix(f".{os.getpid()}{end}") for end in (".cpp", ".o", ".so"))
        unit.write_text(text)
        try:
            _run([COMPILER, *flags, f"-I{SOURCES}", "-c", str(unit), "-o", str(built)])
            _run([COMPILER, "-shared", "-Wl,-Bsymbolic", str(built), str(_runtime(folder)), "-o", str(linked)])
            linked.replace(path)
        finally:
            unit.unlink()
            built.unlink(missing_ok=True)
    library = ctypes.CDLL(str(path))
    return Library(
        {name: Kernel(library, path, name, *known, checks=checks, seed=seed) for name, known in kernels.items()}
    )


def cache() -> Path:
    """Where compiled sources lie: one folder for a compiler, a processor and a state of the runtime.

    Raises:
        Unavailable: see `compile_shader`.
    """
    if platform.system() != "Linux":
        raise Unavailable("Metal sources are run on Linux only")
    if shutil.which(COMPILER) is None:
        raise Unavailable("running Metal sources needs a C++ compiler, and none was found (apt install g++)")
    base = Path(os.environ.get("TRANSIT_TESTS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    processor = re.search(r"^(flags|Features).*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    known = (platform.machine(), COMPILER, processor[0] if processor else "", (SOURCES / "runtime.cpp").read_text())
    folder = base / "transit-tests" / "metal-shim" / _digest(*known)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _run(command: list[str], given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SyntaxError(done.stderr)
    return done.stdout


def _runtime(folder: Path) -> Path:
    """The compiled runtime, which is never instrumented."""
    path = folder / "runtime.o"
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}.o")
        _run([COMPILER, "-std=c++17", "-O2", "-g", "-fPIC", "-c", str(SOURCES / "runtime.cpp"), "-o", str(scratch)])
        scratch.replace(path)
    return path


def translated(source: str) -> tuple[str, dict[str, tuple[list[Parameter], int]]]:
    """C++ of a source, with an entry for each of its kernels; and each kernel's parameters and threads of a group."""
    text = _preprocessed(source)
    if re.search(r"\[\[\s*threadgroup\s*\(", text):
        raise SyntaxError("threadgroup memory as a parameter: torch.mps.compile_shader cannot give its length")
    text = _MEMORY.sub(lambda found: found[1] + _memory(found[2], found[3]), text)
    if left := re.search(r"[;{}\n]\s*threadgroup\s+[^*&;,)]*;", text):
        raise SyntaxError(f"a threadgroup variable that is not understood: {left[0].strip()}")
    kernels: dict[str, tuple[list[Parameter], int]] = {}
    entries = []
    for match in _KERNEL.finditer(text):
        end, depth = match.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        parameters = [_parameter(one) for one in _split(text[match.end() : end - 1])]
        _check(match[2], parameters)
        limit = _number(match[1]) if match[1] else MOST_THREADS
        kernels[match[2]] = (parameters, limit)
        entries.append(_entry(match[2], parameters))
    return f'#include "metal_shim.h"\n{text}\n' + "\n".join(entries) + "\n", kernels


def _number(expression: str) -> int:
    """An integer, or a product of some."""
    if not re.fullmatch(r"[\d\s*()]+", expression):
        raise SyntaxError(f"not a number of threads: {expression}")
    return int(eval(expression, {"__builtins__": {}}))


def _preprocessed(source: str) -> str:
    """The source with its macros expanded and its comments gone; lines keep their numbers."""
    plain = re.sub(r"#\s*include\s*<metal_\w+>", "", source)
    text = _run(
        [COMPILER, "-E", "-x", "c++", "-std=gnu++14", "-D__METAL_VERSION__=310", "-D__METAL__", "-"],
        f'#line 1 "shader.metal"\n{plain}',
    )
    return text[text.index('# 1 "shader.metal"') :]


def _memory(type_: str, declarators: str) -> str:
    """A threadgroup's variables as static ones that the runtime knows, with room behind them."""
    made = []
    for declarator in _split(declarators):
        name = declarator.split("[")[0].strip()
        made.append(
            f"typedef {type_} {name}_type{declarator[len(name) :]}; "
            f"alignas(16) static unsigned char {name}_bytes[sizeof({name}_type) + 512]; "
            f"{name}_type& {name} = *({name}_type*){name}_bytes; "
            f'shim_threadgroup_memory({name}_bytes, sizeof({name}_type), "{name}");'
        )
    return " ".join(made)


def _parameter(text: str) -> Parameter:
    attribute = re.search(r"\[\[\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*\]\]", text)
    plain = " ".join(re.sub(r"\[\[.*?\]\]", "", text).split())
    match = re.fullmatch(r"(.*?)([*&]?)\s*(\w+)", plain)
    if match is None or attribute is None:
        raise SyntaxError(f"a kernel's parameter is a buffer or has an attribute: {plain}")
    words = match[1].split()
    type_ = " ".join(word for word in words if word not in {"device", "constant", "const"})
    kind, number = attribute[1], attribute[2]
    if kind == "buffer":
        return Parameter(
            plain, match[3], type_, index=int(number), reference=match[2] == "&", fixed="constant" in words
        )
    if kind not in POSITIONS:
        raise SyntaxError(f"an attribute that is not understood: {attribute[0]}")
    return Parameter(plain, match[3], type_, position=POSITIONS.index(kind))


def _check(name: str, parameters: list[Parameter]) -> None:
    """What Metal's compiler refuses about a kernel's parameters."""
    buffers = [one.index for one in parameters if one.position is None]
    if buffers != list(range(len(buffers))):
        raise SyntaxError(f"{name}: torch.mps gives arguments in the order of the buffers 0, 1, 2, ...")
    places = [one for one in parameters if one.position is not None]
    lengths = {one.type[-1] if one.type[-1] in "23" else "" for one in places if one.position < VECTORS}
    if len(lengths) > 1:
        raise SyntaxError(f"{name}: positions and sizes must all be scalars, or vectors of one length")
    if any(one.type[-1] in "23" for one in places if one.position >= VECTORS):
        raise SyntaxError(f"{name}: an index within a group is a scalar")


def _entry(name: str, parameters: list[Parameter]) -> str:
    given = []
    for one in parameters:
        if one.position is not None:
            given.append(f"metal::shim::Position<{one.type}>::get({one.position})")
            continue
        const = "const " if "const" in one.declared.split() or one.fixed else ""
        pointer = f"({const}{one.type}*)a[{one.index}]"
        given.append(f"*{pointer}" if one.reference else pointer)
    attributes = '__attribute__((no_sanitize("thread"), no_sanitize("undefined"), noinline))'
    return f'extern "C" {attributes} void shim_entry_{name}(void** a) {{ {name}({", ".join(given)}); }}'


def _split(text: str) -> list[str]:
    """At commas that are in no brackets."""
    parts, depth, begin = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


if __name__ == "__main__":
    print(translated(Path(sys.argv[1]).read_text())[0])
