#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a fresh Debian 13: dracut in the place of initramfs-tools, and the module from its own package. What dracut makes has
# ferofs in it; `boot` boots it after this. Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt update
module=$(echo "$packages"/ferofs-modules-7.3.*_*.deb)
release=$(dpkg-deb -f "$module" Package)
release=${release#ferofs-modules-}
check "dracut takes the place of initramfs-tools" apt install dracut systemd
check "the kernel of the package with the module installs" apt install "linux-image-$release"
check "the packages install" apt install "$module" "$packages"/ferofs-tools_*.deb

# has FILE WORD...: whether an initramfs has what is named so.
has() {
    local file=$1 name
    shift
    lsinitrd "$file" >/var/tmp/listed || return
    for name; do grep -F "$name" /var/tmp/listed || return; done
}

# For this machine alone, whose root filesystem is no ferofs, and for any.
for mode in hostonly no-hostonly; do
    check "dracut makes an initramfs ($mode)" dracut --force --$mode --kver "$release" "/boot/initrd.img-$release"
    check "which has ferofs in it ($mode)" \
        has "/boot/initrd.img-$release" /ferofs.ko /overlay.ko usr/lib/ferofs/root-image hooks/pre-pivot/10-pre-pivot.sh
done
# (fsck.ferofs may be there: dracut takes all programs of that name.)
check "without the module dracut leaves it out" bash -c "
    mv /usr/lib/modules/$release/updates/ferofs.ko /var/tmp/ && depmod $release &&
        dracut --force --no-hostonly --kver $release /var/tmp/without && ! lsinitrd /var/tmp/without | grep -e root-image -e ferofs.ko -e pre-pivot/10-pre-pivot"
mv /var/tmp/ferofs.ko "/usr/lib/modules/$release/updates/"
depmod "$release"
rm -f /var/tmp/without
