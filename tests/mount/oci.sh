#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Container images from a layout: merged, stacked by overlayfs, writable, from /etc/fstab; the tree is that of
# extracting the layers in turn by GNU tar. What is mounted is gone after umount, and a mount that fails leaves
# nothing.

. "$FEROFS_TESTS/lib.sh"
sample

# layout DIR TAR...: makes a layout of one image; every other layer is compressed.
layout() {
    python3 "$FEROFS_TESTS/mount/lib/layout.py" "$@"
}

# extract TAR DIR: as a container runtime applies a layer: first its whiteouts, then the rest of it. What is of
# another kind is replaced, as GNU tar does it for some kinds only.
extract() {
    tar -tf "$1" | grep '\(^\|/\)\.wh\.' | while read -r path; do
        in=$2/$(dirname "$path")
        case $path in
        *.wh..wh..opq) find "$in" -mindepth 1 -delete ;;
        *) rm -rf "${in:?}/$(basename "$path" | sed 's/^\.wh\.//')" ;;
        esac
    done
    tar -tf "$1" | grep -v '/\.wh\.' | while read -r path; do
        path=${path#./}
        case $path in
        '') ;;
        */) if [ -L "$2/${path%/}" ] || [ ! -d "$2/${path%/}" ]; then rm -f "$2/${path%/}"; fi ;;
        *) rm -rf "${2:?}/$path" ;;
        esac
    done
    tar --numeric-owner --delay-directory-restore --exclude='.wh.*' -xpf "$1" -C "$2"
}

# pack NAME: what is in the directory `content` as NAME.tar.
pack() {
    find content -exec touch -hd @17000000"$(printf %02d "${#1}")" {} +
    tar --format=posix --pax-option=delete=atime,delete=ctime --sort=name --numeric-owner \
        --xattrs --xattrs-include='trusted.overlay.*' -cf "$1.tar" -C content .
    rm -rf content
    mkdir content
}

mkdir content cache mnt
for kind in base whiteouts replaced more; do
    (
        cd content || exit 1
        case $kind in
        base)
            mkdir -p etc opt/old opt/kept/deep usr/bin var/d
            echo base >etc/hostname
            seq 1 3000 >usr/bin/tool
            ln usr/bin/tool usr/bin/hard
            ln -s tool usr/bin/link
            echo x | tee opt/old/a opt/old/b opt/kept/deep/c var/d/f >/dev/null
            mkfifo var/pipe
            chmod 1777 var
            echo odd >"etc/a name, with: commas"
            ;;
        whiteouts)
            mkdir -p etc opt/old opt/kept usr/bin fresh
            touch opt/old/.wh..wh..opq opt/kept/.wh.deep usr/bin/.wh.hard
            # Overlayfs does not look for whiteouts in directories that it does not merge, unless it is told to.
            touch opt/old/.wh.gone fresh/.wh.gone
            echo in >fresh/in
            echo new >opt/old/n
            chmod 700 opt
            chown 12:34 etc
            ;;
        replaced)
            # A directory that becomes a file, and one that becomes a link; a link that becomes a directory.
            mkdir -p var usr/bin/link
            touch var/.wh.pipe
            echo file >var/d
            echo in >usr/bin/link/in
            ;;
        more)
            mkdir -p usr/bin etc
            echo changed >etc/hostname
            seq 1 9 >usr/bin/x
            ln usr/bin/x etc/y
            touch etc/.wh.nothing
            # What overlayfs would obey: a file without its data, and a directory of another name.
            setfattr -n trusted.overlay.metacopy etc/hostname
            setfattr -n trusted.overlay.redirect -v /opt/kept usr/bin
            ;;
        esac
    )
    pack $kind
done
mkdir expected
for kind in base whiteouts replaced more; do
    extract $kind.tar expected
done
ferofs-testkit manifest expected >expected.manifest
layout app base.tar whiteouts.tar replaced.tar more.tar

# tree NAME [manifest-diff's arguments]: what is mounted is what was extracted.
tree() {
    tree_name=$1
    shift
    ferofs-testkit manifest mnt >f.manifest
    same "$tree_name: the tree is that of the layers extracted in turn" expected.manifest f.manifest "$@"
    grep -c "$WORK" /proc/mounts >count
    check "$tree_name: there is one mount" grep -qx 1 count
}

# gone NAME [DIR]: unmounts, and nothing is left of it.
gone() {
    check "$1: unmounts" ferofs umount "${2:-mnt}"
    check "$1: nothing is left mounted" sh -c "! grep '$WORK' /proc/mounts"
}

# shellcheck disable=SC2317 # It is called through check.
on() {
    ferofs mount --fs "$FS" --cache cache "$@"
}

check "merged" on -v oci:app:app mnt
cp output said
check "merged: it says so" grep -q "^oci:app:app: mounted at mnt as $FS" said
tree "merged"
gone "merged"
if [ "$FS" = ferofs ]; then
    # The module is in use for as long as anything is mounted.
    check "merged: no mount is left anywhere" sh -c "lsmod | grep -q '^ferofs .* 0 *$'"
fi
ls -i cache >before
check "merged, again" on oci:app mnt
ls -i cache >after
check "merged, again: the cache is used" cmp before after
gone "merged, again"

# Overlayfs has its own numbers of links of directories.
check "stacked" on -v --stack oci:app mnt
cp output said
check "stacked: it says so" grep -q "mounted at mnt as overlay over 4 of $FS" said
tree "stacked" --ignore nlink
check "stacked: cannot be written to" sh -c '! touch mnt/new'
gone "stacked"
check "stacked: in use" on --stack oci:app mnt
refuses "stacked, in use: umount" "Device or resource busy" sh -c "cd mnt && ferofs umount '$WORK/mnt'"
check "stacked, in use: lazily" sh -c "cd mnt && ferofs umount -l '$WORK/mnt'"
check "stacked, in use: is gone" sh -c "! grep '$WORK' /proc/mounts"

for way in merged stacked; do
    rm -rf upper upper.work
    stack=
    [ $way = merged ] || stack=--stack
    # shellcheck disable=SC2086
    check "writable, $way" on $stack --upper upper -o nosuid oci:app mnt
    check "writable, $way: attributes" grep -q "ferofs:oci:app $WORK/mnt overlay rw,nosuid" /proc/mounts
    tree "writable, $way" --ignore nlink
    check "writable, $way: files change" sh -c \
        'echo more >>mnt/etc/hostname && rm mnt/usr/bin/tool && mkdir mnt/srv && mv mnt/etc/y mnt/srv/z'
    gone "writable, $way"
    # shellcheck disable=SC2086
    check "writable, $way: mounts again" on $stack --upper upper --work upper.work oci:app mnt
    check "writable, $way: changes are still there" sh -c \
        'grep -q changed mnt/etc/hostname && grep -q more mnt/etc/hostname && [ ! -e mnt/usr/bin/tool ] && [ -s mnt/srv/z ]'
    gone "writable, $way: again"
    # shellcheck disable=SC2086
    check "read-only, $way" on $stack --upper upper -o ro oci:app mnt
    check "read-only, $way: it is" sh -c '! touch mnt/new && grep -q more mnt/etc/hostname'
    gone "read-only, $way"
done

# A single layer has whiteouts that hide nothing.
layout single whiteouts.tar
for way in --stack "--upper upper2"; do
    # shellcheck disable=SC2086
    check "one layer, $way" on $way oci:single mnt
    check "one layer, $way: no whiteouts" sh -c '[ -e mnt/opt/old/n ] && [ ! -e mnt/opt/kept/deep ] && [ ! -e mnt/usr/bin/hard ]'
    gone "one layer, $way"
done

# Two images whose layers differ and have equal files: in one domain these are cached once. Indexes that were made without
# fingerprints are made anew.
if [ "$FS" = ferofs ]; then
    for number in 1 2; do
        mkdir -p content
        head -c 3000000 "$(command -v python3)" >content/same
        echo "$number" >content/other
        pack share$number
        layout share$number share$number.tar base.tar
    done
    mkdir -p mnt2
    sharing="-o domain_id=oci -o inode_share"
    # shellcheck disable=SC2086
    {
        check "sharing: one without" on oci:share1 mnt
        gone "sharing: one without"
        check "sharing: the first" on $sharing oci:share1 mnt
        check "sharing: the second" on $sharing oci:share2 mnt2
        check "sharing: both do" sh -c "[ \"\$(grep -c '$WORK/mnt.* ferofs .*inode_share' /proc/mounts)\" -eq 2 ]"
        check "sharing: each has its own" sh -c 'grep -qx 1 mnt/other && grep -qx 2 mnt2/other'
        cat mnt/same mnt2/same mnt/etc/hostname >output
        drop
        cat mnt2/same >second
        # The first one's bytes are read when the second's are there: none come from its blob.
        before=$(cached)
        check "sharing: the same is read through the first" cmp mnt/same second
        near "sharing: it is cached once" $(($(cached) - before)) 0 1024
        check "sharing: the first is as it was" cmp -n 3000000 mnt/same "$(command -v python3)"
        check "sharing: one is unmounted" ferofs umount mnt
        gone "sharing" mnt2
    }
fi

# An image or a tar that can be written to.
if [ "$FS" = ferofs ]; then
    check "a tar with an upper directory" ferofs mount --upper upper3 base.tar mnt
    check "a tar: can be written to" sh -c 'echo new >mnt/etc/new && rm mnt/usr/bin/hard && grep -qx base mnt/etc/hostname'
    gone "a tar"
    ferofs build -o base.erofs base.tar
    check "an image with an upper directory" ferofs mount --upper upper3 -o device=base.tar base.erofs mnt
    check "an image: has the changes" sh -c 'grep -qx new mnt/etc/new && [ ! -e mnt/usr/bin/hard ]'
    gone "an image"
fi

# What fails leaves nothing.
refuses "no directory to mount at" "cannot mount oci:app at nowhere: No such file" on --upper upper4 oci:app nowhere
refuses "an upper directory that cannot be" "cannot mount oci:app: " on --upper /proc/self/fd --work /run oci:app mnt
refuses "an unknown option" "nonsense" on --stack -o nonsense oci:app mnt
check "what fails: nothing is mounted" sh -c "! grep '$WORK' /proc/mounts"
check "what fails: no directories are left" sh -c '[ ! -e upper4 ] && [ ! -e upper4.work ]'
layout broken base.tar more.tar
for blob in broken/blobs/sha256/*; do
    if [ "$(head -c 2 "$blob" | od -An -tx1)" = " 1f 8b" ]; then printf x | dd of="$blob" bs=1 seek=40 conv=notrunc 2>/dev/null; fi
done
refuses "a layer that is not what it is called" "its sha256 is .*, expected" ferofs mount --cache cache2 oci:broken mnt
check "such a layer: only what is sound is left" sh -c '! find cache2 -type f ! -name "*.erofs" 2>/dev/null | grep .'
mkdir other
mount -t tmpfs none other
refuses "what others mounted" "there is no EROFS image mounted" ferofs umount other
mount -t overlay -o lowerdir=other:cache overlay other
refuses "an overlay of others" "there is no EROFS image mounted" ferofs umount other
umount other other

# mount(8), as a line in /etc/fstab has it.
if [ "$FS" = ferofs ]; then
    ln -s "$(command -v ferofs)" /sbin/mount.ferofs
    cp /etc/fstab fstab
    echo "oci:$WORK/app:app $WORK/mnt ferofs noauto,nofail,nodev,cache=$WORK/cache,platform=linux/any 0 0" >>/etc/fstab
    check "a container image in /etc/fstab" mount mnt
    check "/etc/fstab: attributes" grep -q " $WORK/mnt ferofs ro,nodev" /proc/mounts
    tree "/etc/fstab"
    check "/etc/fstab: once more" mount mnt
    check "/etc/fstab: is mounted once" sh -c "[ \"\$(grep -c '$WORK' /proc/mounts)\" -eq 1 ]"
    check "/etc/fstab: umount(8)" umount mnt
    sed -i "s/cache=/stack,upper=\"a,b\",cache=/" /etc/fstab
    (cd / && sed -i "s|upper=|upper=$WORK/|" /etc/fstab && sed -i "s|$WORK/\"a,b\"|\"$WORK/a,b\"|" /etc/fstab)
    check "/etc/fstab: stacked and writable" mount mnt
    check "/etc/fstab: once more, stacked" mount mnt
    check "/etc/fstab: can be written to" sh -c 'echo x >mnt/new && [ -e a,b/new ]'
    check "/etc/fstab: umount(8) takes all of it down" umount mnt
    check "/etc/fstab: nothing is left mounted" sh -c "! grep '$WORK' /proc/mounts && lsmod | grep -q '^ferofs .* 0 *$'"
    cp fstab /etc/fstab
    rm /sbin/mount.ferofs
fi

# More layers than a page of options has room for, and than Docker builds.
rm -rf expected
mkdir expected
set --
for number in $(seq 101 230); do
    echo "layer $number" >"content/file$number"
    echo "layer $number" >content/last
    # One file of ten is taken away again by the layer after it.
    below=$((number - 1))
    if [ $((below % 10)) -eq 5 ]; then touch "content/.wh.file$below" && rm "expected/file$below"; fi
    tar --sort=name --mtime="@$((1700000000 + number))" --numeric-owner -cf "layer$number.tar" -C content .
    tar --numeric-owner -xpf "layer$number.tar" -C expected --exclude='.wh.*'
    rm -f content/* content/.wh.*
    set -- "$@" "layer$number.tar"
done
layout many "$@"
ferofs-testkit manifest expected >expected.manifest
for way in merged stacked; do
    stack=
    [ $way = merged ] || stack=--stack
    # shellcheck disable=SC2086
    check "130 layers, $way" on $stack oci:many mnt
    tree "130 layers, $way" --ignore nlink
    gone "130 layers, $way"
done

finish
