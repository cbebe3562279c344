#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Where install.sh has been: the packages are removed, and nothing is left; then a prebuilt module takes the place.
# Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

new=$(basename "$(dirname "$(echo /lib/modules/7.3.*+deb13-amd64/build)")")
check "the packages can be removed" apt remove ferofs-dkms ferofs-tools
check "the modules go with them" bash -c "! find /lib/modules -name 'ferofs.ko*' | grep ."
check "and the metadata" test ! -e /var/lib/ferofs-dkms
check "and what dkms knows of it" bash -c "! dkms status | grep ferofs"
check "they can be purged" apt purge ferofs-dkms ferofs-tools
files >/var/tmp/after
check "nothing of theirs is left" bash -c "! comm -13 /var/tmp/before /var/tmp/after | grep -i ferofs"

check "the prebuilt module installs" apt install "$packages/ferofs-modules-${new}_"*.deb
check "modprobe finds it" bash -c "modprobe -S $new --show-depends fs-ferofs | grep -q updates/ferofs.ko"
check "it takes less than 1 MB" bash -c "test \$(stat -c %s /lib/modules/$new/updates/ferofs.ko) -lt 1000000"
check "it can be purged" apt purge "ferofs-modules-$new"
check "modprobe finds it no more" bash -c "! modprobe -S $new --show-depends fs-ferofs"
