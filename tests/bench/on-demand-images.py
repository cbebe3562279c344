#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Makes the image that tests/bench/on-demand.sh measures with, from what this machine has.

    on-demand-images.py DIRECTORY MEGABYTES

layout/: an OCI layout with the image app:1, of five gzip layers (`gzip -6`) with files of /usr, so many megabytes together
before they are compressed. The first layer has all that python3 needs to start, at its places among a fifth of the rest.
"""

import io
import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../peers/lib"))
import images  # noqa: E402
from importlib import import_module  # noqa: E402

slices = import_module("containerd-images").slices

LAYERS = 5


def main():
    out, megabytes = sys.argv[1], int(sys.argv[2])
    layout = images.Layout(os.path.join(out, "layout"))
    images.FORMS["gzip"] = (images.FORMS["gzip"][0], lambda content: subprocess.run(
        ["gzip", "-6", "-n", "-c"], input=content, check=True, capture_output=True).stdout)
    parts = slices(megabytes * 1000000 // LAYERS)
    with tarfile.open(fileobj=io.BytesIO(images.base())) as base:
        members = {member.name: (member, base.extractfile(member) if member.isreg() else None) for member in base.getmembers()}
        first = images.Layer()
        for name in sorted(members.keys() | {path[1:] for path in next(parts)}):
            if name in members:
                first.tar.addfile(*members[name])
            else:
                first.tar.add(f"/{name}", name, recursive=False)
    layers = [first.finish()]
    for _ in range(LAYERS - 1):
        made = images.Layer()
        for path in next(parts):
            made.tar.add(path, path[1:], recursive=False)
        layers.append(made.finish())
    layout.image("app:1", [(content, "gzip") for content in layers])
    print(f"{sum(map(len, layers))} bytes in {LAYERS} layers")


if __name__ == "__main__":
    main()
