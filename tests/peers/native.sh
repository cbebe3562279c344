#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# What containerd-ferofs-grpc does beside layers that are tars: layers that are images by erofs-utils, one of them
# compressed, stacked with tars; fs-verity for all files, which the kernel insists on; snapshots with a limit; what `store`
# says.

# shellcheck disable=SC2317 # `check` calls the functions
SNAPSHOTTER=ferofs
. "$FEROFS_TESTS/peers/lib/containerd.sh"
. "$FEROFS_TESTS/peers/lib/proxied.sh"
versions containerd erofs-utils fsverity
images
modprobe overlay
ip link set lo up
verity_disk state.img 3G state >output 2>&1 || { fail "a disk with fs-verity" output; finish; }
mkdir -p state/containerd state/ferofs /var/lib/containerd $ROOT
mount --bind state/containerd /var/lib/containerd && mount --bind state/ferofs $ROOT

proxied ferofs-diff walking
cat >server.toml <<END
[layers]
links = false
verity = true
immutable = true
check = true
[metrics]
address = "127.0.0.1:9410"
END

answers() {
    containerd-ferofs-grpc store ls
}

serve() {
    containerd-ferofs-grpc --config server.toml >>"$WORK/server.log" 2>&1 &
    SERVED=$!
    within 60 answers
}

# metric NAME: its value.
metric() {
    python3 -c 'import sys, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:9410/metrics").read().decode()
print(next(line.split()[1] for line in text.splitlines() if line.startswith(sys.argv[1] + " ")))' "$1"
}

# sealed: whether all files of layers and merged images have fs-verity, and layers cannot be removed.
sealed() {
    find "$ROOT/layers" "$ROOT/snapshots" -xdev -name '*.erofs' -o -xdev -name '*.tar' >files
    [ "$(wc -l <files)" -gt 3 ] || return 1
    while read -r file; do fsverity measure "$file" || return; done <files
    ! rm -f "$ROOT"/layers/*.tar 2>/dev/null
}

check "the daemon starts" serve
check "containerd starts" start
MAKER=ferofs
for image in kinds native; do
    check "$image is imported" ctr images import --snapshotter ferofs "$SHARED/images/$image.tar"
done
mounts_of kinds:1
same "kinds:1 is what the overlayfs snapshotter shows" kinds:1.overlayfs ferofs.kinds:1.ferofs --ignore blocks
check "all files have fs-verity, and are immutable" sealed
check "the kernel mounts no others" sh -c "grep '$ROOT/snapshots' /proc/self/mounts | grep -q 'verity=require'"
check "a container of images and tars starts" prints hello run native:1 one /usr/bin/python3 -c 'print("hello")'
check "it has what its layers have" prints 4 run native:1 two /usr/bin/python3 -c 'print(open("/steps/newest").read(), end="")'
viewed ferofs native:1 native
same "images and tars show what tars show" kinds:1.overlayfs native --ignore blocks
merged_with_lz4() {
    for merged in "$ROOT"/snapshots/*/merged.erofs; do ferofs dump "$merged"; done >dumped
    grep "^algorithm: *lz4" dumped && grep "^device 2: " dumped
}
check "the compressed one is merged with that below" merged_with_lz4

check "metrics count layers" [ "$(metric ferofs_layers_applied_total)" -ge 10 ]
check "store verify says that all is well" sh -c 'ferofs store verify | grep -q " 0 are not"'
check "store ls knows an image" sh -c 'ferofs store ls | grep -q "image "'

# A tar that is another one is not mounted, nor one without fs-verity.
stop -TERM
kill "$SERVED"
wait "$SERVED" 2>/dev/null
for lower in "$ROOT"/snapshots/*/lower; do umount "$lower" 2>/dev/null; done
# The largest one is the first layer's.
tar=$(find "$ROOT/layers" -name '*.tar' -printf '%s %p\n' | sort -rn | sed -n '1s/^[0-9]* //p')
chattr -i "$tar"
cp "$tar" kept && rm "$tar" && cp kept "$tar"
check "the daemon starts again" serve
check "containerd starts again" start
refused() {
    ! run kinds:1 three /bin/busybox true >"$WORK/refused" 2>&1 && cat "$WORK/refused" && grep -q "fs-verity" "$WORK/refused"
}
check "a tar without fs-verity is refused" refused
fsverity enable "$tar"
check "with it, it is mounted" prints hello run kinds:1 four /usr/bin/python3 -c 'print("hello")'

# A limit.
limited() {
    ctr run --rm --snapshotter ferofs --snapshotter-label containerd.io/snapshot/max-size=20M local/kinds:1 "$1" \
        /bin/busybox sh -c "$2"
}
check "a container with a limit can write" prints "written" limited five 'echo written | tee /etc/new'
full() {
    limited six 'dd if=/dev/zero of=/big bs=1M count=40; true' >full 2>&1
    cat full
    grep -q "No space left" full
}
check "but not more than that" full
check "no file system of a limit is left" within 30 sh -c "! grep -F limited /proc/self/mounts"

for image in kinds native; do check "$image is removed" ctr images rm --sync "local/$image:1"; done
empty() {
    find "$ROOT/" -type f ! -name metadata.redb
    [ -z "$(find "$ROOT/" -type f ! -name metadata.redb)" ]
}
within 60 empty
check "nothing is left" empty
ferofs store ls | sed "s/^/# /" >store.txt
[ "$(wc -l <store.txt)" -le 3 ] || cat store.txt
check "nobody uses the module" [ "$(users)" = 0 ]
stop -TERM
kill "$SERVED"
wait "$SERVED" 2>/dev/null
grep -E 'ERROR|WARN' server.log | tail -n 5 | cut -c 1-300 | sed 's/^/# /'
umount /var/lib/containerd $ROOT state
finish
