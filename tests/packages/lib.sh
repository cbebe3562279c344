# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is for those who source it
#
# What the scripts in this directory share that run in the chroot. Sourced, never run.

set -uo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
packages=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../build/deb" && pwd)
log=$(mktemp)

# check NAME COMMAND...: one result; what the command says is shown if it fails.
check() {
    local name=$1
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok - $name"
    else
        sed 's/^/# /' "$log"
        echo "not ok - $name"
    fi
}

# says NAME TEXT: one result: the last installation's output has the text.
says() {
    if grep -qF -- "$2" "$log.apt"; then
        echo "ok - $1"
    else
        tail -n 40 "$log.apt" | sed 's/^/# /'
        echo "not ok - $1: expected '$2'"
    fi
}

# apt WORD...: apt-get, whose output `says` looks at; fails as it does.
apt() {
    local start=$SECONDS status=0
    apt-get -o APT::Sandbox::User=root -o Dpkg::Options::=--force-unsafe-io -y -q --no-install-recommends "$@" \
        >"$log.apt" 2>&1 || status=$?
    sed 's/^/# | /' "$log.apt"
    echo "# apt-get $(printf '%s ' "${@##*/}" | cut -c 1-80): $((SECONDS - start)) s"
    return "$status"
}

# used: megabytes in the system.
used() {
    du -smc --exclude=/var/cache --exclude=/var/lib/apt /boot /etc /usr /var 2>/dev/null | tail -n 1 | cut -f 1
}

# files: all that is installed; what programs of the machine may change at any time is left out.
files() {
    find /boot /etc /opt /srv /usr /var -path /var/cache -prune -o -path /var/lib/apt -prune -o -path /var/log -prune -o \
        -print | sort
}

installed() {
    dkms status -m ferofs -k "$1" | grep -q ': installed'
}
