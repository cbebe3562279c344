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
