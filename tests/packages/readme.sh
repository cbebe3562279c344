#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a fresh Debian 13 with its own kernel 6.12: the lines of the README that install ferofs there, as they are written.
# What needs the machine itself is left out (reboot, modprobe, systemctl), and `make deb`, which `run` has done. Called by
# `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt update
apt purge 'linux-image-7.2.*' 'linux-headers-7.2.*'
apt autoremove
check "before, the system has the kernel of Debian 13" apt install linux-image-amd64/trixie sudo
# Of the settings of `apt` these must hold for the program apt, too, which the lines call.
printf 'APT::Get::Assume-Yes "true";\nAPT::Sandbox::User "root";\nDpkg::Options:: "--force-unsafe-io";\n' >/etc/apt/apt.conf.d/readme

# install LINE: a line of the README.
install() {
    local start=$SECONDS before status=0
    before=$(used)
    bash -c "$1" >"$log.apt" 2>&1 || status=$?
    echo "# $1: $((SECONDS - start)) s"
    echo "# $1: $(($(used) - before)) MB"
    if [ "$status" -ne 0 ]; then tail -n 40 "$log.apt"; fi
    return "$status"
}

count=0
while read -r line; do
    case $line in *'apt install '*) ;; *) continue ;; esac
    line=${line%%#*}
    line=${line%%&&*}
    line=${line%"${line##*[! ]}"}
    count=$((count + 1))
    check "$line" install "$line"
    sed -n '/^# .*: [0-9]* [sMB]*$/p' "$log"
done < <(sed -n '/^## On your Debian 13/,/^## By hand/p' "$(dirname "${BASH_SOURCE[0]}")/../../README.md" | grep '^    ')
check "the README has three such lines" test "$count" = 3

new=$(basename "$(dirname "$(echo /lib/modules/7.3.*+deb13-amd64/build)")")
check "after them the module is there for the kernel of backports" installed "$new"
check "who asks for erofs gets it" bash -c "modprobe -S $new --show-depends fs-erofs | grep -q 'ferofs.ko.* erofs=1'"
check "mkfs.erofs makes an index" bash -c "cd /var/tmp && tar -cf layer.tar /etc/passwd && mkfs.erofs --tar=i layer.erofs layer.tar && ferofs check layer.erofs --device layer.tar"
