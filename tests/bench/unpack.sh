# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# The part of make-data that runs in a virtual machine: unpacks the trees onto the benchmarks' disk.

mkdir -p /run/disk/ && mount -t ext4 -o noatime /dev/disk0 /run/disk && cd /run/disk || exit 1
mkdir tree wide && tar -xpf usr.tar -C tree && tar -xpf wide.tar -C wide || exit 1
cd / && umount /run/disk
