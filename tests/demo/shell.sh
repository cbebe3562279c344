#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a VM: each tar in /data is indexed and mounted through ferofs below /mnt, before the user gets the prompt.
# Called by tests/demo/run.

echo
for tar in /data/*; do
    [ -f "$tar" ] || continue
    name=$(basename "$tar")
    mkdir -p "/mnt/$name"
    ferofs build -o "/data/work/$name.erofs" "$tar" &&
        mount -t ferofs -o "device=$tar" "/data/work/$name.erofs" "/mnt/$name" &&
        echo "$tar is mounted on /mnt/$name"
done
echo "The kernel's messages: dmesg. To end: exit, or Ctrl-D."
echo
