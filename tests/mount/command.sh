#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The command `ferofs mount`: blobs found by their sha256, a bare tar, more layers than one page of options
# could name, the kernel's reason when it refuses, mount(8) with the helper, and `ferofs umount`.

. "$FEROFS_TESTS/lib.sh"
sample
tar=$SHARED/sample.tar
# Left as they are, whiteouts are files like others.
ferofs build --digest --whiteouts keep -o sample.erofs "$tar" || exit 1
hex=$(sha256sum <"$tar" | cut -d ' ' -f 1)
mkdir -p mnt store/sha256

# tree NAME [MANIFEST]: what is mounted is the sample.
tree() {
    ferofs-testkit manifest mnt >f.manifest
    same "$1: the tree is the same" "${2:-$SHARED/sample.manifest}" f.manifest
    check "$1: unmounts" ferofs umount mnt
}

if [ "$FS" = ferofs ]; then
    refuses "a blob that is nowhere is named" "$hex is in none of" ferofs mount --blobs store sample.erofs mnt
    ln "$tar" "store/sha256/$hex"
    check "a blob in a layout is found" ferofs mount -v --verify --blobs store sample.erofs mnt
    cp output said
    check "and named" grep -q "device 1: store/sha256/$hex, found by its sha256" said
    check "/proc/mounts has image and blob" \
        grep -q "^$WORK/sample.erofs $WORK/mnt ferofs ro,.*device=$WORK/store/sha256/$hex" /proc/mounts
    tree "a blob found by its sha256"
    mv "store/sha256/$hex" "store/$hex.tar"
    check "a blob beside others is found" ferofs mount --blobs store/sha256 --blobs store sample.erofs mnt
    tree "a blob beside others"

    # A tar without an image. Its whiteout has the form of overlayfs already, and stays as it is.
    unpack "$tar" extracted
    ferofs-testkit manifest extracted >extracted.manifest
    check "a tar" ferofs mount "$tar" mnt
    tree "a tar" extracted.manifest

    mkdir merged upper temp
    check "a tar: mounts again" ferofs mount "$tar" mnt
    check "a tar: an overlay over it" \
        mount -t overlay -o "lowerdir=$WORK/mnt,upperdir=$WORK/upper,workdir=$WORK/temp" overlay merged
    check "a file of it can be changed" sh -c 'echo more >>merged/tree/new && cat merged/tree/new'
    umount merged
    check "a tar: unmounts" ferofs umount mnt
fi

check "a blob by its path" ferofs mount --fs "$FS" -o "device=$tar" "$(padded sample.erofs)" mnt
tree "a blob by its path"

# The attributes of the mount.
check "attributes" ferofs mount --fs "$FS" -o "rw,nosuid,nodev,noexec,noatime,device=$tar" sample.erofs.padded mnt
check "are shown" grep -q " $WORK/mnt $FS ro,nosuid,nodev,noexec,noatime" /proc/mounts
check "in use: is refused" sh -c "cd mnt && ! ferofs umount '$WORK/mnt'"
check "lazily: unmounts" sh -c "cd mnt && ferofs umount -l '$WORK/mnt'"
refuses "what is not mounted" "there is no EROFS image mounted" ferofs umount mnt

# The kernel's own words.
refuses "an option that is unknown" "cannot mount sample.erofs.padded: .*nonsense" \
    ferofs mount --fs "$FS" -o "device=$tar,nonsense" sample.erofs.padded mnt
check "or is left out with -s" ferofs mount -s --fs "$FS" -o "device=$tar,nonsense" sample.erofs.padded mnt
check "and it is mounted" ferofs umount mnt
refuses "a directory that is not there" "cannot mount sample.erofs.padded at nowhere: No such file" \
    ferofs mount --fs "$FS" -o "device=$tar" sample.erofs.padded nowhere
if [ "$FS" = ferofs ]; then
    head -c 4096 "$tar" >short.tar
    refuses "a blob that is too short" "short.tar is not the tar that device 1 of sample.erofs was made from" \
        ferofs mount -o device=short.tar sample.erofs mnt
    # With the same headers, and other data.
    cp "$tar" changed.tar
    python3 - <<'END'
import tarfile
with tarfile.open("changed.tar") as tar:
    at = max(entry.offset_data for entry in tar if entry.isreg() and not entry.sparse and entry.size)
with open("changed.tar", "r+b") as tar:
    tar.seek(at)
    byte = tar.read(1)[0]
    tar.seek(at)
    tar.write(bytes([byte ^ 1]))
END
    check "a blob with other data: mounts" ferofs mount -o device=changed.tar sample.erofs mnt
    check "a blob with other data: unmounts" ferofs umount mnt
    refuses "a blob that is not that of the image" "its sha256 is .*, the image expects $hex" \
        ferofs mount --verify -o device=changed.tar sample.erofs mnt
    refuses "too few blobs" "ferofs: .*device 1 of 1" ferofs mount sample.erofs mnt
    refuses "too many blobs" "device slots in the image: 1, but devices given: 2" \
        ferofs mount -o "device=$tar,device=short.tar" sample.erofs mnt
    refuses "a tar that is none" "text: at offset 148: .*is this a tar" sh -c \
        'yes "no header of a tar" | head -n 100 >text; ferofs mount text mnt'

    # More devices than the page has room for that mount(2) takes options in.
    mkdir layers expected content
    for number in $(seq 101 220); do
        echo "layer $number" >"content/file$number"
        tar -cf layer.tar -C content --mtime=@1700000000 "file$number"
        tar -xpf layer.tar -C expected
        ferofs build --digest -o "layer$number.erofs" layer.tar || exit 1
        mv layer.tar "layers/$(sha256sum <layer.tar | cut -d ' ' -f 1).tar"
    done
    check "120 layers merge" ferofs merge -o merged.erofs layer???.erofs
    check "120 layers" ferofs mount --blobs layers merged.erofs mnt
    ferofs-testkit manifest mnt >f.manifest
    ferofs-testkit manifest expected >expected.manifest
    # The root directory is in none of the tars.
    same "120 layers: the tree is the same" expected.manifest f.manifest --ignore mtime
    check "120 layers: every file has its own data" diff -r expected mnt
    check "120 layers: unmount" ferofs umount mnt
fi

# mount(8) calls mount.ferofs, with options of its own.
ln -s "$(command -v ferofs)" /sbin/mount.ferofs
if [ "$FS" = ferofs ]; then
    check "mount(8) with the helper" mount -t ferofs -o "nosuid,device=$tar" sample.erofs mnt
    tree "mount(8) with the helper"
    echo "$tar $WORK/mnt ferofs noauto,nofail 0 0" >>/etc/fstab
    check "a tar in /etc/fstab" mount mnt
    tree "a tar in /etc/fstab" extracted.manifest
    unshare -m sh -c ': >ready; exec sleep 1000' &
    other=$!
    until [ -e ready ]; do sleep 0.1; done
    check "mount -N" mount -N /proc/$other/ns/mnt -t ferofs -o "device=$tar" "$WORK/sample.erofs" "$WORK/mnt"
    check "mount -N: mounts there, and not here" \
        sh -c "grep -q ' $WORK/mnt ferofs ' /proc/$other/mounts && ! grep -q ' $WORK/mnt ' /proc/mounts"
    check "umount -N" umount -N /proc/$other/ns/mnt "$WORK/mnt"
    kill $other
    refuses "mount(8) shows the reason" "no EROFS superblock\|neither\|is this a tar" mount -t ferofs /bin/sh mnt
fi
rm /sbin/mount.ferofs

finish
