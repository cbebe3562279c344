#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# timeout: 600
# slow: yes
#
# The page cache of a container host: 20 containers of 20 images, each three layers that all of them have and one of its
# own, as overlayfs over one mount a layer (so containerd 2.1 has it) or over mounts of each container's own (so later
# ones). When all files of all containers were read, what is in the cache is the bytes of the layers, once. Lines of
# `# cache` say how it is with the C driver in the same machine (Documentation/benchmarks.md has them).

. "$FEROFS_TESTS/lib.sh"
modprobe overlay
IMAGES=20
mkdir bin layers empty
echo >empty/file
ln -s "$(command -v ferofs)" bin/mkfs.erofs

# Layers of 6 MiB that are shared, and of 512 KiB that are not, as files of several sizes.
python3 - "$IMAGES" <<'END' || fail "trees of layers"
import os, sys
def layer(name, large, small):
    os.makedirs(f"{name}/{name}/small")
    for number in range(large):
        with open(f"{name}/{name}/{number}", "wb") as file:
            file.write(os.urandom(300000))
    for number in range(small):
        with open(f"{name}/{name}/small/{number}", "wb") as file:
            file.write(os.urandom(4000))
for name in ("base", "runtime", "library"):
    layer(name, 20, 70)
for number in range(int(sys.argv[1])):
    layer(f"app-{number}", 1, 50)
END
bytes=0
for tree in base runtime library app-*; do
    # As containerd calls it.
    tar -C "$tree" -cf - . | bin/mkfs.erofs --tar=f --aufs --quiet -Enoinline_data -b4096 "layers/$tree.erofs" >output 2>&1 ||
        fail "a layer" output
    bytes=$((bytes + $(find "$tree" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')))
done
expected=$((bytes >> 10))

# containers TYPE WHOSE: mounts all of them; whose mounts the layers are: shared or own.
containers() {
    containers_number=0
    while [ $containers_number -lt $IMAGES ]; do
        containers_lower=
        for containers_layer in app-$containers_number library runtime base; do
            containers_at=mounts/$containers_layer
            if [ "$2" = own ]; then containers_at=mounts/$containers_number.$containers_layer; fi
            mountpoint -q "$containers_at" || mounted -t "$1" "layers/$containers_layer.erofs" "$containers_at" || return
            containers_lower=$containers_lower:$WORK/$containers_at
        done
        mkdir -p "run/$containers_number" "upper/$containers_number" "work/$containers_number"
        touch -d @1700000000 "upper/$containers_number"
        mount -t overlay -o "lowerdir=${containers_lower#:},upperdir=upper/$containers_number,workdir=work/$containers_number" \
            overlay "run/$containers_number" || return
        containers_number=$((containers_number + 1))
    done
}

away() {
    umount run/* mounts/* && rm -rf run mounts upper work
}

# empty: drops all caches, and has again what the programs themselves are.
empty() {
    drop
    find empty -type f -exec cat {} + >/dev/null
    ferofs-testkit manifest empty >/dev/null
    cached
}

# reads VIA: reads all files of all containers.
reads() {
    for reads_container in run/*; do
        case $1 in
        read) find "$reads_container" -type f -exec cat {} + >/dev/null || return ;;
        *) ferofs-testkit manifest --via "$1" "$reads_container" >/dev/null || return ;;
        esac
    done
}

for type in ferofs erofs; do
    for whose in shared own; do
        containers $type $whose >output 2>&1 || fail "$type: containers over $whose mounts" output
        before=$(empty)
        reads read >output 2>&1 || fail "$type: $whose: all is read" output
        grown=$(($(cached) - before))
        echo "# cache: $IMAGES containers over $whose mounts of layers, all files read, $type: $grown KiB of $expected KiB," \
            "$((grown * 100 / expected)) %"
        # Directories and inodes are in it, too.
        if [ $type = ferofs ]; then
            check "over $whose mounts, what was read is cached once" test $grown -le $((expected * 110 / 100))
            check "over $whose mounts, it is cached" test $grown -ge $((expected * 90 / 100))
        fi
        if [ $type$whose = ferofsshared ]; then
            before=$(empty)
            reads mmap >output 2>&1 || fail "$type: $whose: all is mapped" output
            grown=$(($(cached) - before))
            echo "# cache: the same by mmap: $grown KiB, $((grown * 100 / expected)) %"
            check "over $whose mounts, what was mapped is cached once" test $grown -le $((expected * 120 / 100))
        fi
        ferofs-testkit manifest run/7 >"$type.$whose.manifest"
        away >output 2>&1 || fail "$type: $whose: unmounts" output
    done
done
same "a container shows what it shows with the C driver" erofs.shared.manifest ferofs.shared.manifest --ignore blocks
same "also with mounts of its own" erofs.own.manifest ferofs.own.manifest --ignore blocks
finish
