# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the benchmarks of containerd share: sourced in the machine by tests/bench/containerd.sh and tests/bench/on-demand.sh.
# Each kind of snapshotter, $kind, gets a fresh disk and a containerd of its own.

. "$FEROFS_TESTS/peers/lib/proxied.sh"
DISK=/run/disk
device=$(basename "$(readlink -f /dev/disk0)")
server=

# processor: milliseconds that all threads of the machine ran. sectors: those that were written to the disk.
processor() { awk '/^cpu/ { sum += $8 } END { printf "%d\n", sum / 1000000 }' /proc/schedstat; }
sectors() { awk '{ print $7 }' "/sys/block/$device/stat"; }
cached() { awk '/^Cached:|^Buffers:/ { sum += $2 } /^Shmem:/ { sum -= $2 } END { print sum }' /proc/meminfo; }
peak() { awk '/^VmHWM:/ { print $2 }' "/proc/$1/status"; }

until_it() {
    until "$@" >/dev/null 2>&1; do sleep 0.2; done
}

# begin FILESYSTEM: a fresh disk with nothing of containerd, which is started.
begin() {
    case $1 in
    xfs) mkfs.xfs -q -f /dev/disk0 || exit 1 ;;
    *) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 /dev/disk0 || exit 1 ;;
    esac
    mount -o noatime /dev/disk0 "$DISK" || exit 1
    mkdir "$DISK/containerd" "$DISK/ferofs"
    # One mount, as below /var/lib: files are linked within one mount alone.
    rm -rf /var/lib/containerd "$ROOT"
    ln -s "$DISK/containerd" /var/lib/containerd
    ln -s "$DISK/ferofs" "$ROOT"
    # shellcheck disable=SC2154 # of who sources this
    case $kind in
    ferofs) first=ferofs-diff ;;
    erofs) first=erofs ;;
    *) first=walking ;;
    esac
    case $first in
    walking) proxied walking ;;
    *) proxied $first walking ;;
    esac
    if [ "$kind" = ferofs ]; then
        containerd-ferofs-grpc >>/run/server.log 2>&1 &
        server=$!
        until_it test -S "$SOCKET"
    fi
    containerd >>/run/containerd.log 2>&1 &
    containerd=$!
    until_it ctr version
}

end() {
    ctr containers ls -q | while read -r name; do ctr tasks rm -f "$name"; ctr containers rm "$name"; done >/dev/null 2>&1
    # shellcheck disable=SC2086 # it may be none
    kill "$containerd" $server 2>/dev/null
    # shellcheck disable=SC2086
    wait "$containerd" $server 2>/dev/null
    server=
    awk '{ print $2 }' /proc/self/mounts | grep -e '^/run/containerd' -e "^$DISK/" | sort -r |
        while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done
    until_it umount "$DISK"
    rm -rf /run/containerd "$SOCKET"
}
