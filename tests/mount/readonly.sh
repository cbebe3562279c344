#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The file system is read-only: every way to change something ends with EROFS, before and after a remount.

. "$FEROFS_TESTS/lib.sh"
sample
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1
mounted full.erofs under-test >output 2>&1 || fail "mounts" output

none_writes() {
    t=under-test
    refuses "$1: open for writing" "Read-only" sh -c ": >>$t/sizes/4096"
    refuses "$1: create" "Read-only" sh -c ": >$t/new"
    refuses "$1: mkdir" "Read-only" mkdir $t/newdir
    refuses "$1: rmdir" "Read-only" rmdir $t/special/empty
    refuses "$1: unlink" "Read-only" unlink $t/sizes/1
    refuses "$1: link" "Read-only" ln $t/sizes/1 $t/sizes/new
    refuses "$1: symlink" "Read-only" ln -s x $t/sizes/new
    refuses "$1: mknod" "Read-only" mknod $t/pipe p
    refuses "$1: rename" "Read-only" mv -T $t/sizes/1 $t/sizes/moved
    refuses "$1: truncate" "Read-only" truncate -s 5 $t/sizes/4096
    refuses "$1: chmod" "Read-only" chmod 777 $t/sizes/1
    refuses "$1: chown" "Read-only" chown 5 $t/sizes/1
    refuses "$1: utimes" "Read-only" touch -d 2000-01-01 $t/sizes/1
    if command -v setfattr >/dev/null; then
        refuses "$1: setxattr" "Read-only" setfattr -n user.a -v b $t/sizes/1
    fi
}

none_writes "mounted"
check "remount" mount -o remount under-test
none_writes "remounted"
check "remount,ro" mount -o remount,ro under-test
# The C driver takes remount,rw of the superblock and stays read-only. What matters is the result.
mount -o remount,rw under-test >output 2>&1
none_writes "remounted rw"
check "it is still read-only in /proc/self/mountinfo" \
    sh -c "grep '$WORK/under-test ' /proc/self/mountinfo | sed 's/.* - //' | grep -q ' ro'"
ferofs-testkit manifest under-test >f.manifest
same "the tree is still the same" "$SHARED/sample.manifest" f.manifest

# A reader keeps what it has open over a remount and a lazy unmount.
exec 5<under-test/sizes/65537
mount -o remount,ro under-test
umount -l under-test
check "an open file survives a lazy unmount" sh -c "cmp - '$SHARED/sample/sizes/65537' <&5"
exec 5<&-

finish
