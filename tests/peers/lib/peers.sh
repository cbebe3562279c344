# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the tests of peers share: sourced in the place of tests/lib.sh, which it sources. From then on ferofs is the file
# system type `erofs`, and the C driver is not there.

# as_erofs: ferofs is `erofs` from here on. c_driver: the C driver is, for what is to be compared.
as_erofs() {
    if [ "$(cat /sys/module/ferofs/parameters/erofs 2>/dev/null)" = Y ] && ! grep -qw ^erofs /proc/modules; then return; fi
    modprobe -qr erofs
    rmmod ferofs 2>/dev/null
    insmod "$FEROFS_KO" erofs=1 || exit 1
}

c_driver() {
    rmmod ferofs && modprobe erofs || exit 1
}

as_erofs
. "$FEROFS_TESTS/lib.sh"

# versions PACKAGE...: prints which ones these are.
versions() {
    # shellcheck disable=SC2016 # dpkg's own
    dpkg-query -W -f '# ${Package} ${Version}\n' "$@"
}

# users: how many mounts and other users the module has.
users() {
    awk '$1 == "ferofs" { print $3 }' /proc/modules
}

# images: makes, once for all scripts, $SHARED/images, as lib/images.py says.
images() {
    [ -e "$SHARED/images" ] && return
    if ! python3 "$FEROFS_TESTS/peers/lib/images.py" "$SHARED/images.part" >output 2>&1; then
        fail "test images" output
        finish
    fi
    mv "$SHARED/images.part" "$SHARED/images"
}

# within SECONDS COMMAND...: waits until the command succeeds; fails if it does not in that time.
within() {
    within_left=$(($1 * 2))
    shift
    until "$@" >/dev/null 2>&1; do
        within_left=$((within_left - 1))
        [ $within_left -gt 0 ] || return 1
        sleep 0.5
    done
}

# registry PORT DIRECTORY [LINE...]: starts Debian's docker-registry on the port, which keeps all it has in the directory, with
# these lines more in its configuration, and waits until it listens. REGISTRY is the process then, and REGISTRIES are all of them:
# `check` calls it in the same shell.
REGISTRIES=
registry() {
    registry_port=$1
    {
        printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %s}}\n' "$2"
        printf 'http:\n  addr: 127.0.0.1:%s\n' "$1"
        shift 2
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } >"registry-$registry_port.yml"
    docker-registry serve "registry-$registry_port.yml" >>"registry-$registry_port.log" 2>&1 &
    REGISTRY=$!
    REGISTRIES="$REGISTRIES $REGISTRY"
    within 120 python3 -c "import socket; socket.create_connection(('127.0.0.1', $registry_port))"
}

# wide: a registry on port 5000 that has the image WIDE, whose layer has the files of tree, and which is in layout, too.
WIDE=127.0.0.1:5000/some/wide:1
wide() {
    ip link set lo up
    check "an image of 48 MiB" python3 "$FEROFS_TESTS/peers/lib/images.py" --wide layout tree
    check "a registry starts" registry 5000 "$WORK/registry"
    check "skopeo brings the image there" skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false \
        oci:layout:wide:1 "docker://$WIDE"
}
