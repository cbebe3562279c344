# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the tests of containerd share: sourced in the place of tests/peers/lib/peers.sh, which it sources. The script sets
# SNAPSHOTTER to the one under test, and makes /etc/containerd/config.toml.

. "$FEROFS_TESTS/peers/lib/peers.sh"

# start [DIRECTORY]: starts containerd, with what is in the directory before all else in its PATH.
start() {
    PATH="${1:+$1:}$PATH" containerd >>"$WORK/containerd.log" 2>&1 &
    DAEMON=$!
    within 60 ctr version
}

stop() {
    kill "${1:--TERM}" "$DAEMON"
    wait "$DAEMON" 2>/dev/null
}

# run IMAGE NAME PROGRAM...: runs a container with that name.
run() {
    run_image=local/$1
    run_name=$2
    shift 2
    ctr run --rm --snapshotter "$SNAPSHOTTER" "$run_image" "$run_name" "$@"
}

# prints TEXT COMMAND...: whether the command succeeds and prints the text.
prints() {
    prints_text=$1
    shift
    "$@" >"$WORK/printed" 2>&1 || { cat "$WORK/printed"; return 1; }
    cat "$WORK/printed"
    grep -qxF "$prints_text" "$WORK/printed"
}

# mounted_below TEXT: prints the mounts whose source or place has the text in it.
mounted_below() {
    grep -F "$1" /proc/self/mounts
}

# viewed SNAPSHOTTER IMAGE FILE: makes a manifest of the image as the snapshotter mounts it. Each time elsewhere: containerd 2.3
# has what it mounted at a place until it next collects garbage.
viewed() {
    viewed_at=$(mktemp -d "$WORK/view.XXXXXX")
    ctr images mount --snapshotter "$1" --platform linux/amd64 "local/$2" "$viewed_at" >output 2>&1 ||
        fail "$MAKER: $2 is mounted by $1" output
    # containerd gives the root directory of an overlayfs snapshot no time from the layers.
    ferofs-testkit manifest --xattrs "$viewed_at" | sed '1s/ mtime=[^ ]*//' >"$3"
    ctr images unmount --rm --snapshotter "$1" "$viewed_at" >output 2>&1 ||
        fail "$MAKER: $2 is unmounted from $1" output
    rmdir "$viewed_at"
}

# mounts_of IMAGE: makes manifests of the image, MAKER.IMAGE.SNAPSHOTTER and IMAGE.overlayfs, as both snapshotters mount it;
# that of overlayfs unpacks it for that.
mounts_of() {
    for mounts_kind in "$SNAPSHOTTER" overlayfs; do
        case $mounts_kind in
        overlayfs) mounts_to=$1.overlayfs ;;
        *) mounts_to=$MAKER.$1.$mounts_kind ;;
        esac
        [ -e "$mounts_to" ] || viewed "$mounts_kind" "$1" "$mounts_to"
    done
}
