#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 1500
#
# An unmodified containerd with its own erofs snapshotter and differ, on ferofs as `erofs`, with fs-verity: once with
# ferofs as mkfs.erofs, once with that of erofs-utils. It shows what its overlayfs snapshotter shows of the same images.

# shellcheck disable=SC2317 # `check` calls the functions
SNAPSHOTTER=erofs
. "$FEROFS_TESTS/peers/lib/containerd.sh"
versions containerd runc erofs-utils
images
modprobe overlay
STATE=/var/lib/containerd
verity_disk state.img 4G $STATE >output 2>&1 || { fail "a disk with fs-verity" output; finish; }
mkdir bin
ln -s "$(command -v ferofs)" bin/mkfs.erofs

mkdir -p /etc/containerd
cat >/etc/containerd/config.toml <<'END'
version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[plugins."io.containerd.snapshotter.v1.erofs"]
  enable_fsverity = true
[plugins."io.containerd.service.v1.diff-service"]
  default = ["erofs", "walking"]
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "erofs"
    differ = "erofs"
END

# layers: the images of the snapshotter.
layers() {
    find $STATE/io.containerd.snapshotter.v1.erofs -name layer.erofs
}

# sealed: whether there are images, and all have fs-verity.
sealed() {
    layers >"$WORK/layers"
    [ -s "$WORK/layers" ] || return 1
    while read -r sealed_image; do fsverity measure "$sealed_image" || return; done <"$WORK/layers"
}

# begins DIRECTORY LAYERS IMAGE...: starts containerd and imports images, which come to so many layers.
begins() {
    begins_in=$1
    begins_layers=$2
    shift 2
    check "$MAKER: containerd starts" start "$begins_in"
    ctr plugins ls >plugins.txt
    check "$MAKER: it has its erofs snapshotter and differ" test "$(grep -c 'erofs .* ok *$' plugins.txt)" = 2
    for image; do
        check "$MAKER: $image is imported by the erofs snapshotter" \
            ctr images import --snapshotter erofs "$SHARED/images/$image.tar"
    done
    check "$MAKER: the layers are images with fs-verity ($(layers | wc -l))" sealed
    check "$MAKER: there are $begins_layers of them" [ "$(layers | wc -l)" = "$begins_layers" ]
    check "$MAKER: python prints in a container of 2 layers" prints hello run app:1 two /usr/bin/python3 -c 'print("hello")'
    check "$MAKER: ferofs is what is mounted" [ "$(users)" -gt 0 ]
    for image; do
        mounts_of "$image:1"
        same "$MAKER: $image:1 is what the overlayfs snapshotter shows" "$image:1.overlayfs" "$MAKER.$image:1.erofs" \
            --ignore blocks
    done
}

# ends IMAGE...: removes the images. Nothing stays behind.
ends() {
    for image; do check "$MAKER: $image is removed" ctr images rm --sync "local/$image:1"; done
    check "$MAKER: no layer is left" within 60 sh -c "[ -z \"\$(find $STATE/io.containerd.snapshotter.v1.erofs -name layer.erofs)\" ]"
    mounted_below io.containerd >left
    check "$MAKER: nothing is left mounted" [ ! -s left ]
    check "$MAKER: and nobody uses the module" [ "$(users)" = 0 ]
    stop
}

# What a person does with containerd, from an empty state to an empty state.
MAKER="ferofs"
begins "$WORK/bin" 101 app deep
check "$MAKER: python prints in a container of 100 layers" prints 99 run deep:1 hundred /usr/bin/python3 -c \
    'print(open("/steps/newest").read(), end="")'

# What runs goes on without the daemon.
check "$MAKER: a container is started" ctr run -d --snapshotter erofs local/deep:1 long /bin/busybox sleep 1000
stop -KILL
pid=$(pgrep -f 'busybox sleep 1000')
check "$MAKER: it survives a killed containerd" test -d "/proc/$pid/root/steps"
echo 3 >/proc/sys/vm/drop_caches
check "$MAKER: and its files are still there" grep -qx 99 "/proc/$pid/root/steps/newest"
check "$MAKER: containerd starts again" start "$WORK/bin"
check "$MAKER: it knows the container" sh -c 'ctr tasks ls | grep -q "^long .*RUNNING"'
check "$MAKER: and runs a program in it" prints again ctr tasks exec --exec-id second long /bin/busybox echo again
check "$MAKER: another container starts" prints hello run app:1 two /usr/bin/python3 -c 'print("hello")'
ctr tasks kill --signal KILL long >output 2>&1 && within 60 sh -c 'ctr tasks ls | grep -q "^long .*STOPPED"' &&
    ctr tasks rm long >>output 2>&1
check "$MAKER: the container is removed" ctr containers rm long
ends app deep

# The same from images that are not ours.
MAKER="mkfs.erofs"
begins "" 2 app
ends app
grep -E 'level=(error|fatal)' containerd.log | grep -v 'context canceled' | tail -n 5 | cut -c 1-300 | sed 's/^/# /'
umount $STATE
finish
