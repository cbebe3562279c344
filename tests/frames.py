#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Reads `objdump -d` of a module and prints the functions whose stack frame is over so many bytes; fails if there are any.

    objdump -d --no-show-raw-insn MODULE | frames.py BYTES
"""

import re
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
# What a function's beginning takes of the stack at once, and a word at a time.
FRAME = re.compile(r"\bsub\s+\$0x([0-9a-f]+),%rsp")
PUSH = re.compile(r"\bpush\s+%")


def main():
    most, function, sizes = int(sys.argv[1]), None, {}
    for line in sys.stdin:
        if found := FUNCTION.match(line.strip()):
            function = found[1]
        elif found := FRAME.search(line):
            sizes[function] = sizes.get(function, 0) + int(found[1], 16)
        elif PUSH.search(line):
            sizes[function] = sizes.get(function, 0) + 8
    if not sizes:
        sys.exit("frames: expected functions with frames")
    large = sorted(((size, name) for name, size in sizes.items() if size > most), reverse=True)
    for size, name in large:
        print(f"{size} bytes: {name}")
    print(f"{len(sizes)} functions with a frame, the largest of {max(sizes.values())} bytes; at most {most} may be")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
