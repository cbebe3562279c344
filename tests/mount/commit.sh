#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# `ferofs commit` after every kind of change to a real overlay: the layer over its base, applied by GNU tar and merged by
# `ferofs merge`, is what the overlay showed. Once over directories, once over ferofs; with and without userxattr.

. "$FEROFS_TESTS/lib.sh"
. "$FEROFS_TESTS/mount/lib/changes.sh"

make_base

# apply TAR DIR: as a container runtime does, first its whiteouts, and then what GNU tar makes of the rest of it.
# shellcheck disable=SC2317 # It is called through check.
apply() {
    python3 - "$1" "$2" <<'END'
import os, shutil, stat, sys, tarfile

root = os.fsencode(sys.argv[2])

def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)

for member in tarfile.open(sys.argv[1]):
    path = os.path.join(root, os.fsencode(member.name))
    above, name = os.path.split(path)
    if name == b".wh..wh..opq":
        for below in os.listdir(above) if os.path.isdir(above) else []:
            remove(os.path.join(above, below))
    elif name.startswith(b".wh."):
        remove(os.path.join(above, name[4:]))
    elif not (member.isdir() and os.path.isdir(path) and not os.path.islink(path)):
        remove(path)
END
    tar --numeric-owner --warning=no-unknown-keyword --warning=no-timestamp --delay-directory-restore --exclude='.wh.*' --anchored \
        --exclude='*/.wh.*' --xattrs --xattrs-include='*' --acls -xpf "$1" -C "$2"
}

# compare NAME OPTIONS LOWER [ferofs commit's arguments]: changes the lower directory by an overlay that is mounted with these
# options, and commits that.
compare() {
    compare_name=$1
    mkdir -p upper work merged applied
    mount -t overlay -o "$2,lowerdir=$3,upperdir=$WORK/upper,workdir=$WORK/work" overlay merged || exit 1
    shift 3
    change >output 2>&1 || fail "$compare_name: the changes" output
    # Of the kinds of files that there are, a layer has no sockets.
    check "$compare_name: a layer is written of a mounted overlay" ferofs commit "$@" -o layer.tar upper
    ferofs-testkit manifest --xattrs merged >expected.manifest
    grep -c . expected.manifest >count
    umount merged
    check "$compare_name: the same once it is unmounted" ferofs commit "$@" -o again.tar.zst upper
    check "$compare_name: the same bytes, zstd" sh -c 'zstd -dcq again.tar.zst | cmp - layer.tar'
    check "$compare_name: the same bytes, gzip" sh -c "ferofs commit $* -o again.tgz upper && gzip -dc again.tgz | cmp - layer.tar"
    check "$compare_name: nothing of overlayfs's own is in it" sh -c '! grep -qa "overlay\." layer.tar'
    tar -xpf base.tar --xattrs --xattrs-include='user.*' --numeric-owner -C applied
    check "$compare_name: GNU tar applies it" apply layer.tar applied
    touch -hd @1700000000 applied
    ferofs-testkit manifest --xattrs applied >applied.manifest
    same "$compare_name: applied, it is what the overlay showed" expected.manifest applied.manifest
    if ferofs build -q --digest -o base.erofs base.tar && ferofs build -q --digest -o layer.erofs layer.tar &&
        ferofs merge -q -o both.erofs base.erofs layer.erofs; then
        check "$compare_name: merged, it mounts" mounted both.erofs under-test \
            --option "device=$WORK/base.tar" --option "device=$WORK/layer.tar"
        ferofs-testkit manifest --xattrs under-test >merged.manifest
        same "$compare_name: merged, it is what the overlay showed" expected.manifest merged.manifest
        umount under-test
    else
        fail "$compare_name: ferofs build and merge"
    fi
    rm -rf upper work applied
}

compare directories index=off "$WORK/base"
ferofs build -q -o lower.erofs base.tar
check "ferofs: mounts" mounted lower.erofs lower --option "device=$WORK/base.tar"
compare ferofs index=off "$WORK/lower"
umount lower
compare userxattr userxattr "$WORK/base" --userxattr

# What only overlayfs knows of files in the layers below cannot be in a layer.
mkdir -p upper work merged
mount -t overlay -o "redirect_dir=on,metacopy=off,lowerdir=$WORK/base,upperdir=$WORK/upper,workdir=$WORK/work" overlay merged
mv merged/renamed merged/moved
umount merged
refuses "a directory that was renamed by redirect_dir" 'upper/moved: .*redirect_dir' ferofs commit -o bad.tar upper
rm -rf upper work
mkdir -p upper work merged
mount -t overlay -o "metacopy=on,redirect_dir=on,lowerdir=$WORK/base,upperdir=$WORK/upper,workdir=$WORK/work" overlay merged
chmod 600 merged/bin/large
umount merged
refuses "a file of which only the metadata was copied" 'upper/bin/large: .*metacopy' ferofs commit -o bad.tar upper
check "nothing is left of either" test ! -e bad.tar
refuses "trusted attributes that are hidden" 'seen by root alone' setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \
    sh -c 'exec ferofs commit -o bad.tar upper'

finish
