"""Find import cycles between modules: `python tools/import_cycles.py [PACKAGE_FOLDER ...]`; exits 1 if there are any.

Imports inside functions count, since they only postpone a cycle. Imports under `if TYPE_CHECKING:` are reported
separately and count too: a type that two modules need of each other belongs into a third. `from package import name`
is an import of the module `package.name` where there is one, else of the package's `__init__`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

Graph = dict[str, set[str]]


def modules(folder: Path) -> dict[str, Path]:
    """The files below a package's folder, by module name."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name: str, file: Path, known: set[str], *, types: bool) -> set[str]:
    """The known modules that a file imports; those under `if TYPE_CHECKING:` only with `types`."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in known else base)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return (found & known) - {name}


def cycles(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def main(folders: list[Path]) -> int:
    """Print the cycles of these packages; 1 if there are any."""
    files = {name: file for folder in folders for name, file in modules(folder).items()}
    bad = 0
    for types in (False, True):
        graph = {name: imports(name, file, set(files), types=types) for name, file in files.items()}
        found = cycles(graph)
        bad += len(found)
        arrows = sum(map(len, graph.values()))
        print(f"{len(files)} modules, {arrows} imports{' with those of types' if types else ''}: {len(found)} cycles")
        for component in found:
            print(f"  {' <-> '.join(component)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    sys.exit(main([Path(folder) for folder in sys.argv[1:] or ("transit_cli", "plugins/transit_plugins")]))
