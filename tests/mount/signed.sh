#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3
#
# Signed images: `ferofs build --sign` makes what the kernel takes for a signature by a key that it knows, and no other; `ferofs mount
# --verity=signed` and `ferofs mountd` mount what the kernel has checked, over the tars that it answers for, and nothing else. The judge of
# signatures is the kernel, keys are made by openssl.

# shellcheck disable=SC2015,SC2016,SC2317 # any of a row may fail; the inner shells' words; `check` calls the functions
. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { pass "the C driver knows no signatures"; finish; }
verity_disk ext4.disk 100M ext4 >output 2>&1 || fail "ext4 with verity" output
cd ext4 || exit 1

USER=1234
for name in ours theirs; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$name" -keyout $name.key -out $name.crt >output 2>&1 &&
        openssl x509 -in $name.crt -outform der -out $name.der || fail "a key" output
done
# The kernel knows ours.
python3 - >output 2>&1 <<'PYTHON' || fail "the kernel's keyring" output
import ctypes, re
ADD_KEY = 248
[keyring] = [int(line.split()[0], 16) for line in open("/proc/keys") if re.search(r"keyring +\.fs-verity:", line)]
certificate = open("ours.der", "rb").read()
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(ADD_KEY, b"asymmetric", b"", certificate, len(certificate), keyring) < 0:
    raise OSError(ctypes.get_errno(), "add_key")
PYTHON

mkdir one two
seq 30000 >one/numbers && echo one >one/name && seq 20000 >two/others && echo two >two/name
cp "$(command -v busybox)" two/busybox
tar -C one -cf one.tar . && tar -C two -cf two.tar . || fail "tars"
signed="--sign ours.key --cert ours.crt"
# shellcheck disable=SC2086 # words
{
    {
        ferofs build -q --verity -o one.erofs one.tar && ferofs build -q --verity -o two.erofs two.tar &&
            fsverity enable one.tar && fsverity enable two.tar
    } >output 2>&1 || fail "layers" output
    check "an index is signed" ferofs build -q --verity $signed -o index.erofs one.tar
    check "a merged image is signed" ferofs merge -q $signed -o merged.erofs one.erofs two.erofs
    check "an image with its data is signed" ferofs build -q --mode=full $signed -o full.erofs two.tar
    check "one of a directory is signed" ferofs build -q $signed -o tree.erofs one
    check "by somebody else" ferofs build -q --verity --sign theirs.key --cert theirs.crt -o foreign.erofs two.tar

    # What cannot be signed leaves nothing.
    refuses "an index that does not answer for its tar" 'has not the fs-verity digests of its tars' \
        ferofs build -q $signed -o refused.erofs one.tar
    ferofs build -q -o plain.erofs one.tar
    refuses "a merged image that does not" 'has not the fs-verity digests of its tars' \
        ferofs merge -q $signed -o refused.erofs plain.erofs
    refuses "a key without a certificate" 'cert' ferofs build -q --verity --sign ours.key -o refused.erofs one.tar
    refuses "a key that is none" 'refused.erofs: fsverity sign' ferofs build -q --verity --sign one.tar --cert ours.crt -o refused.erofs one.tar
    refuses "a certificate of another key" 'refused.erofs: fsverity sign' \
        ferofs build -q --verity --sign ours.key --cert theirs.crt -o refused.erofs one.tar
    refuses "a key that is not there" 'refused.erofs: fsverity sign' \
        ferofs build -q --verity --sign missing.key --cert ours.crt -o refused.erofs one.tar
    refuses "no fsverity" 'cannot run fsverity' env PATH=/nowhere "$(command -v ferofs)" build -q --verity $signed -o refused.erofs one.tar
}
check "and nothing is left" sh -c '! ls refused* 2>/dev/null'

for image in index merged full tree; do
    check "the kernel takes the signature of $image" fsverity enable --signature=$image.erofs.p7s $image.erofs
done
refuses "the kernel does not take somebody else's" 'Required key not available\|Key was rejected\|Operation not permitted' \
    fsverity enable --signature=foreign.erofs.p7s foreign.erofs
refuses "nor that of another image" 'Key was rejected\|Bad message\|Invalid' fsverity enable --signature=index.erofs.p7s foreign.erofs
fsverity enable foreign.erofs || fail "fs-verity without a signature"

# look AT TREE...: whether what is mounted is what the trees have.
look() {
    look_at=$1
    shift
    for look_tree in "$@"; do diff -r "$look_tree" "$look_at" | grep -v "^Only in $look_at" | grep . && return 1; done
    return 0
}
digest_of() { fsverity measure "$1" | sed 's/ .*//'; }
mkdir -m 777 mnt
chmod 755 . ..
check "a signed index" ferofs mount --verity=signed --device one.tar index.erofs mnt
check "has its files" diff -r one mnt
check "and is mounted by its digest" grep -q " ferofs ro.*,verity=$(digest_of index.erofs)," /proc/mounts
umount mnt
check "a signed merged image" ferofs mount -o verity=signed --device two.tar --device one.tar merged.erofs mnt
check "has its files: the upper one's" look mnt two
check "the lower one's" cmp one/numbers mnt/numbers
umount mnt
for image in full tree; do check "signed: $image" ferofs mount --verity=signed $image.erofs mnt && umount mnt; done
refuses "another tar" 'digest' ferofs mount --verity=signed --device two.tar index.erofs mnt
refuses "one with fs-verity alone" 'foreign.erofs is not signed' ferofs mount --verity=signed --device two.tar foreign.erofs mnt
refuses "one without fs-verity" 'plain.erofs is not signed' ferofs mount --verity=signed --device one.tar plain.erofs mnt
refuses "a tar" 'has no fs-verity' ferofs mount --verity=signed one.tar mnt

# The service, for who may not mount.
as() {
    as_user=$1
    shift
    setpriv --reuid="$as_user" --regid="$as_user" --clear-groups unshare --user --map-root-user --mount sh -c "$*"
}
sysctl -qw kernel.unprivileged_userns_clone=1 2>/dev/null
echo "allow signed uid=$USER noexec" >policy
ferofs mountd --listen --policy policy 2>refused &
SERVICE=$!
for _ in $(seq 100); do [ -S /run/ferofs/mountd.sock ] && break; sleep 0.1; done
check "a signed image is allowed" as $USER 'ferofs mount --verity=signed --device one.tar index.erofs mnt && diff -r one mnt'
check "by its digest, too" as $USER "ferofs mount -o verity=$(digest_of full.erofs) full.erofs mnt && diff -r two mnt"
refuses "its programs are not" 'Permission denied' as $USER 'ferofs mount --verity=signed full.erofs mnt && mnt/busybox true'
refuses "one that is not signed" 'is not allowed for user' as $USER "ferofs mount -o verity=$(digest_of foreign.erofs) --device two.tar foreign.erofs mnt"
refuses "one that says it is another" "digest" as $USER "ferofs mount -o verity=$(digest_of foreign.erofs) full.erofs mnt"
refuses "for another user" 'is not allowed for user 1235' as 1235 'ferofs mount --verity=signed full.erofs mnt'
mkfifo pipe
refuses "a pipe" 'neither a regular file nor a block device' as $USER "ferofs mount -o verity=$(digest_of full.erofs) pipe mnt"
kill $SERVICE

# A kernel that wants a signature of all files.
sysctl -qw fs.verity.require_signatures=1
check "signed images are opened all the same" ferofs mount --verity=signed full.erofs mnt
umount mnt
sysctl -qw fs.verity.require_signatures=0
finish
