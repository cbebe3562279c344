#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# For dracut: puts the module into an initramfs, if there is one for its kernel, with what a ferofs root filesystem may lie
# on, and what makes an image the root filesystem. See ferofs(5). dracut calls these functions.
#
# shellcheck disable=SC2154 # `kernel` and `moddir` are dracut's

check() {
    modinfo -k "$kernel" ferofs >/dev/null 2>&1
}

depends() {
    echo base
}

installkernel() {
    # Also where this machine has another root filesystem.
    hostonly='' instmods ferofs overlay ext4 xfs
}

install() {
    inst_multiple mount modprobe mkdir uname
    inst_simple /usr/lib/ferofs/root-image
    inst_hook pre-pivot 10 "$moddir/pre-pivot.sh"
}
