#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Says how much of the module mutated images have reached. Called by tests/fuzz/reach, inside the build root.

    reach.py MODULE DIRECTORY LINES

MODULE has been built with kcov and debug information. DIRECTORY has `sections`, lines `NAME ADDRESS` of where the module's
sections were in the kernel, and files of places that were passed (see `fuzz-mounts --coverage`). Places are where the compiler called kcov,
at the begin of each piece of code without a branch; several may be one line of source, of which there are several copies. Prints for
each source file how many of the lines with places were passed. LINES gets those that were not. What workers of the kernel do for a
reader is not told, as kcov tells of the thread that asks.
"""

import collections
import os
import re
import subprocess
import sys

CALLED = "__sanitizer_cov_trace_pc"
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
SECTION = re.compile(r"^Disassembly of section (\S+):$")
FUNCTION = re.compile(r"^[0-9a-f]+ <")


def sites(module):
    """(section, offset) behind each call of kcov. Calls go through registers or the stack, which get its address before."""
    found = set()
    section = None
    holders = set()
    # Those that were given back where a function returns; what follows is on another path.
    restored = set()
    latest = None
    # Where the address is after the instruction: what it went to, if a relocation says so on the next line.
    behind_call = False
    text = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", module], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        if match := SECTION.match(line):
            section = match[1]
            continue
        if FUNCTION.match(line):
            holders, restored, latest, behind_call = set(), set(), None, False
            continue
        if "R_X86_64" in line:
            if CALLED in line and latest:
                word, operands = latest
                if word.startswith("call"):
                    behind_call = True
                elif word.startswith("mov"):
                    holders.add(operands.rsplit(",", 1)[-1])
            continue
        match = INSTRUCTION.match(line)
        if not match:
            continue
        address, word, operands = match.groups()
        operands = operands.split("#")[0].split("<")[0].strip()
        if behind_call:
            found.add((section, int(address, 16)))
            behind_call = False
        target = operands.rsplit(",", 1)[-1]
        if word.startswith("call"):
            behind_call = operands.startswith("*") and operands[1:] in holders
        elif word.startswith("mov") and "," in operands:
            source = operands.rsplit(",", 1)[0]
            if source in holders:
                holders.add(target)
            else:
                holders.discard(target)
        elif word.startswith("pop") and target in holders:
            holders.discard(target)
            restored.add(target)
        elif word.startswith(("lea", "xor", "add", "sub")):
            holders.discard(target)
        elif word.startswith(("ret", "jmp", "ud2")):
            holders |= restored
            restored = set()
        latest = word, operands
    return found


def lines_of(module, places):
    """(file, line) of each place, as the innermost function has it."""
    by_section = collections.defaultdict(list)
    for section, offset in places:
        by_section[section].append(offset)
    found = {}
    for section, offsets in by_section.items():
        # The call itself, and not what is behind it.
        asked = "".join(f"{offset - 1:#x}\n" for offset in offsets)
        said = subprocess.run(["addr2line", "-e", module, "-j", section], check=True, capture_output=True, text=True,
                              input=asked).stdout.splitlines()
        for offset, line in zip(offsets, said):
            file, _, number = line.split(" ")[0].rpartition(":")
            for top in ("/rust/", "/fs/"):
                if top in file:
                    file = top[1:] + file.split(top, 1)[1]
                    break
            found[section, offset] = os.path.normpath(file), int(number) if number.isdigit() else 0
    return found


def main():
    module, directory, listing = sys.argv[1:]
    sections = {}
    passed = set()
    seeds = set()
    for name in os.listdir(directory):
        with open(os.path.join(directory, name)) as file:
            for line in file:
                words = line.split()
                if name == "sections":
                    sections[words[0]] = int(words[1], 16)
                elif words[0] == "seed":
                    seeds.add(int(words[1]))
                else:
                    passed.add(int(words[0], 16))
    all_of_it = sites(module)
    addresses = {sections[section] + offset: (section, offset) for section, offset in all_of_it if section in sections}
    unknown = len(passed - addresses.keys())
    reached = {addresses[address] for address in passed & addresses.keys()}
    total, there = collections.defaultdict(set), collections.defaultdict(set)
    for place, (file, number) in lines_of(module, all_of_it).items():
        total[file].add(number)
        if place in reached:
            there[file].add(number)
    ours = sorted(file for file in total if file.startswith(("fs/", "rust/vfs/", "rust/erofs/", "rust/helpers/")) and "kunit" not in file)
    print(f"{'file':<44}{'lines':>8}{'passed':>8}")
    for top in ("fs/", "rust/erofs/", "rust/vfs/", "rust/helpers/"):
        below = [file for file in ours if file.startswith(top)]
        for file in below:
            print(f"{file:<44}{len(total[file]):>8}{100 * len(there[file]) / len(total[file]):>7.1f}%")
        count = sum(len(total[file]) for file in below)
        if count:
            print(f"{'all of ' + top:<44}{count:>8}{100 * sum(len(there[file]) for file in below) / count:>7.1f}%")
    with open(listing, "w") as file:
        for name in ours:
            for number in sorted(total[name] - there[name]):
                file.write(f"{name}:{number}\n")
    print(f"{len(passed)} places passed, {unknown} of them where no call was found; {len(seeds)} seeds passed some that none "
          "before them had")
    # More than some mean that calls are not found any more.
    sys.exit(unknown * 10 > len(passed) or not passed)


if __name__ == "__main__":
    main()
