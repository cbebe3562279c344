#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a fresh Debian 13: the source package builds without a network, and its packages have what those of `make deb` have.
# Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

source=$(echo "$packages"/../deb-source/ferofs_*.dsc)

# build: the packages, in /var/tmp.
build() {
    cd /var/tmp || return
    dpkg-source --no-check -x "$source" source || return
    cd source || return
    unshare --net dpkg-buildpackage --build=binary --unsigned-changes
}

# has FILE: the names, modes and owners of what is in a package; its changelog and the like have times in them.
has() {
    dpkg-deb --contents "$1" | awk '{ print $1, $2, $6, $7, $8 }' | sort
}

same() {
    diff <(has "$packages/$1"_*.deb) <(has "/var/tmp/$1"_*.deb)
}

apt update
check "what it takes to build the source package installs" apt install dpkg-dev
check "also that which it says itself" apt build-dep "$source"
start=$SECONDS
check "it builds without a network" build
echo "# the packages, from the source package: $((SECONDS - start)) s"
for package in ferofs-tools containerd-ferofs-grpc ferofs-dkms ferofs-as-erofs; do
    check "$package has the same files as that of make deb" same "$package"
done
check "the packages install" apt install /var/tmp/ferofs-tools_*.deb
check "and the command is there, of the right version" \
    bash -c "ferofs --version | grep -F \"\$(dpkg-query -W -f '\${Version}' ferofs-tools)\""
