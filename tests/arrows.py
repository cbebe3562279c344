#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Checks which way the files of the module use each other, by their `use` lines. Called by tests/lint.
#
# In rust/vfs the folders are floors: a file uses what is on its own floor or a lower one. Nowhere do more than three
# files use each other in a circle.

import pathlib
import re
import sys

FLOORS = ["mount", "node", "pages", "object", "backing"]
MOST = 3


def uses(file, pattern):
    """The names that the file's `use` lines have at their beginning."""
    return set(re.findall(rf"(?m)^\s*(?:pub(?:\([^)]*\))? )?use {pattern}", file.read_text()))


def circles(graph):
    """The sets of files that can all be reached from each other."""
    reached = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for name in graph[todo.pop()] & graph.keys() - seen:
                seen.add(name)
                todo.append(name)
        reached[start] = seen
    return {
        frozenset(other for other in graph if other in reached[name] and name in reached[other])
        for name in graph
        if name in reached[name]
    }


def main():
    wrong = []
    graphs = {}
    files = {f"{path.parent.name}::{path.stem}": path for path in pathlib.Path("rust/vfs").glob("*/*.rs")}
    graphs["rust/vfs"] = {
        name: uses(path, r"crate::vfs::(\w+::\w+)") - {name} for name, path in files.items()
    }
    for name, used in graphs["rust/vfs"].items():
        floor = FLOORS.index(name.split("::")[0])
        for other in used & files.keys():
            if FLOORS.index(other.split("::")[0]) < floor:
                wrong.append(f"{files[name]} uses {other}, which is on a higher floor")
    # The roots take in all that there is; tests use what they test.
    for folder, pattern in {"rust/erofs/src": r"super::(\w+)", "fs": r"crate::(\w+)"}.items():
        files = {path.stem: path for path in pathlib.Path(folder).glob("*.rs") if path.stem not in ("lib", "kunit")}
        graphs[folder] = {name: uses(path, pattern) - {name} for name, path in files.items()}
    for folder, graph in graphs.items():
        if not any(graph.values()):
            wrong.append(f"{folder}: expected files that use each other, found none")
        for circle in circles(graph):
            if len(circle) > MOST:
                wrong.append(f"{folder}: a circle of {len(circle)} files: {', '.join(sorted(circle))}")
    if wrong:
        sys.exit("\n".join(wrong))


main()
