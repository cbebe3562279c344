#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In an initramfs made by dracut, once the root filesystem is mounted: an image that lies in it becomes the root filesystem,
# if the kernel's command line asks for it. See root-image. dracut sources this.
#
# The image is mounted over the root filesystem: systemd, which has mounted that, would take it for gone if it moved.

command -v die >/dev/null || . /lib/dracut-lib.sh
# shellcheck source=tools/packaging/initramfs/root-image
. /usr/lib/ferofs/root-image

ferofs_fails() {
    die "ferofs: $1"
}

if ferofs_asked; then
    # shellcheck disable=SC2154 # NEWROOT is dracut's
    mount --bind "$NEWROOT" "$ferofs_host" || ferofs_fails "cannot bind $NEWROOT to $ferofs_host"
    ferofs_mount "$NEWROOT"
fi
