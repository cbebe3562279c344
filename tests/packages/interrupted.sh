#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Where install.sh has been: a build that is killed and an upgrade that is interrupted; then a cloud flavour's headers. Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

old=$(basename "$(dirname "$(echo /lib/modules/7.2.*+deb13-amd64/build)")")
new=$(basename "$(dirname "$(echo /lib/modules/7.3.*+deb13-amd64/build)")")
cloud=${new%amd64}cloud-amd64

# A build that was killed in the middle.
dkms remove -m ferofs -v 0.1.0 --all >/dev/null 2>&1
dkms add -m ferofs -v 0.1.0 >/dev/null 2>&1
kernel-rust-metadata remove "$old"
timeout -k 1 -s KILL 15 setsid kernel-rust-metadata make "$old" >/dev/null 2>&1
mkdir -p /var/lib/dkms/ferofs/0.1.0/build
check "a build that was killed leaves no metadata that looks complete" test ! -e "/var/lib/ferofs-dkms/$old"
dpkg --unpack --force-unsafe-io "$packages"/ferofs-dkms_*.deb >/dev/null 2>&1
check "an upgrade that was interrupted goes on" dpkg --configure -a
check "and the module is built again" installed "$old"

check "a cloud flavour's headers install" apt install "linux-headers-$cloud"
check "the module is built for them" installed "$cloud"
