# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# The part of `make bench` that runs in the virtual machine: mounts the disk of make-data and measures.
# Called by run, which passes options in the file options.

modprobe erofs && modprobe squashfs && modprobe loop || exit 1
insmod "$FEROFS_KO" || exit 1
mkdir -p /run/disk
mount -t ext4 -o ro,noatime /dev/disk0 /run/disk || exit 1
# shellcheck disable=SC2046 # options are words
ferofs-bench run --disk /run/disk --device /dev/disk0 --work "$FEROFS_WORK" --out "$FEROFS_OUT" $(cat /data/options)
