#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# timeout: 300
#
# What umoci, which reads archives as containerd and Docker do (with Go's archive/tar), makes of a layer by `ferofs commit` on
# top of its base is what the overlay showed; in an image that ferofs mounts it is that, too.

. "$FEROFS_TESTS/peers/lib/peers.sh"
. "$FEROFS_TESTS/mount/lib/changes.sh"
versions umoci
modprobe overlay
make_base

mkdir -p upper work merged mnt
mount -t overlay -o "lowerdir=$WORK/base,upperdir=$WORK/upper,workdir=$WORK/work" overlay merged || exit 1
change >output 2>&1 || fail "the changes" output
check "a layer is written" ferofs commit -o layer.tar upper
ferofs-testkit manifest --xattrs merged >expected.manifest
umount merged
{ umoci init --layout layout && umoci new --image layout:app && umoci raw add-layer --image layout:app base.tar; } >output 2>&1 ||
    fail "the image" output
check "umoci takes it into an image" umoci raw add-layer --image layout:app layer.tar
check "umoci extracts the image" umoci unpack --image layout:app bundle
# The root has no entry in a layer.
touch -hd @1700000000 bundle/rootfs
ferofs-testkit manifest --xattrs bundle/rootfs >umoci.manifest
same "umoci makes of it what the overlay showed" expected.manifest umoci.manifest
check "ferofs mounts the image" ferofs mount --cache cache oci:layout:app mnt
ferofs-testkit manifest --xattrs mnt >ferofs.manifest
same "ferofs makes of it what the overlay showed" expected.manifest ferofs.manifest
ferofs umount mnt

finish
