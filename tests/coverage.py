#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Reads what `llvm-cov export --format=lcov` says of two runs, and prints which lines of rust/erofs ran in which.

    coverage.py LINES TESTS.lcov IMAGES.lcov     LINES gets the lines that neither reached, with what is in them
"""

import collections
import os
import sys


def read(path):
    """For each file the lines that can run, with how often they did."""
    files = collections.defaultdict(dict)
    with open(path) as report:
        for line in report:
            kind, _, rest = line.strip().partition(":")
            if kind == "SF":
                name = rest[rest.index("rust/erofs/src/"):]
            elif kind == "DA":
                number, count = rest.split(",")[:2]
                files[name][int(number)] = int(count)
    return files


def main():
    lines, *reports = sys.argv[1:]
    tests, images = map(read, reports)
    totals = [0] * 4
    print(f"{'file':<24}{'lines':>6}{'tests':>8}{'images':>8}{'both':>8}")

    def row(name, values):
        count, *reached = values
        shares = "".join(f"{100 * value / count:>7.1f}%" for value in reached)
        print(f"{name:<24}{count:>6}{shares}")

    with open(lines, "w") as missing:
        for name in sorted(tests):
            with open(name) as source:
                text = source.read().split("\n")
            end = next((number for number, line in enumerate(text, 1) if line.startswith("#[cfg(all(test")), len(text) + 1)
            # Neither do tests within the sources count, nor what is derived.
            all_of = [number for number in tests[name] if number < end and not text[number - 1].lstrip().startswith("#[derive(")]
            if not all_of:
                continue
            by_tests = {number for number in all_of if tests[name][number]}
            by_images = {number for number in all_of if images.get(name, {}).get(number)}
            values = [len(all_of), len(by_tests), len(by_images), len(by_tests | by_images)]
            totals = [total + value for total, value in zip(totals, values)]
            row(os.path.basename(name), values)
            for number in all_of:
                if number not in by_tests | by_images:
                    missing.write(f"{name}:{number}: {text[number - 1].strip()}\n")
    row("all", totals)


main()
