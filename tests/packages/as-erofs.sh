#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Where install.sh has been: ferofs takes the place of erofs, and gives it back. Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

new=$(basename "$(dirname "$(echo /lib/modules/7.3.*+deb13-amd64/build)")")

# ferofs as erofs.
apt install erofs-utils
files >/var/tmp/before-as-erofs
sum=$(sha256sum </usr/bin/mkfs.erofs)
check "before, erofs is the kernel's driver" bash -c "modprobe -S $new --show-depends fs-erofs | grep -q /erofs.ko"
check "ferofs-as-erofs installs" apt install "$packages"/ferofs-as-erofs_*.deb
check "who asks for erofs gets ferofs, told to be erofs" \
    bash -c "modprobe -S $new --show-depends fs-erofs | grep -q 'ferofs.ko.* erofs=1'"
check "and not the kernel's driver" bash -c "! modprobe -S $new --show-depends fs-erofs | grep -q /erofs.ko"
check "mkfs.erofs is the command of ferofs" bash -c "mkfs.erofs --version | grep -qi ferofs"
check "that of erofs-utils is beside it" bash -c "test \"\$(sha256sum </usr/bin/mkfs.erofs.erofs-utils)\" = '$sum'"
check "ferofs-as-erofs can be removed" apt remove ferofs-as-erofs
check "then erofs is the kernel's driver" bash -c "modprobe -S $new --show-depends fs-erofs | grep -q /erofs.ko"
check "and mkfs.erofs that of erofs-utils" bash -c "test \"\$(sha256sum </usr/bin/mkfs.erofs)\" = '$sum'"
check "its diversion and its file for modprobe are gone" \
    bash -c "! dpkg-divert --list | grep -q erofs && test ! -e /usr/lib/modprobe.d/ferofs-as-erofs.conf"
check "it can be purged" apt purge ferofs-as-erofs
files >/var/tmp/after-as-erofs
check "and nothing of it is left" bash -c "! comm -13 /var/tmp/before-as-erofs /var/tmp/after-as-erofs | grep -i ferofs"
apt purge erofs-utils
