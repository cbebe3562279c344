#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The part of tests/bench/on-demand that runs in the virtual machine: a container with python3 from an image in a registry that
# is 20 ms away and sends 50 MB a second, until it has ended. Prints lines
# `result KIND|STEP|MILLISECONDS|PROCESSOR MILLISECONDS|MEGABYTES FROM THE REGISTRY|MEGABYTES WRITTEN`. /data has the image.

. "$FEROFS_TESTS/bench/containerd-lib.sh"
read -r KINDS </data/options
image=127.0.0.1:5000/some/app:1
for module in erofs overlay; do modprobe $module || exit 1; done
insmod /data/sch_netem.ko || exit 1
insmod "$FEROFS_KO" || exit 1
mkdir -p "$DISK" /etc/containerd "${SOCKET%/*}" /data/registry /data/built
ip link set lo up

milliseconds() { echo $(($(date +%s%N) / 1000000)); }
received() { cat /sys/class/net/lo/statistics/rx_bytes; }

# measured STEP COMMAND...: runs it, and says what it took. What is written is what has to be until a sync is over, which takes
# no part of the time.
measured() {
    measured_step=$1
    shift
    sync
    measured_sectors=$(sectors)
    measured_bytes=$(received)
    measured_processor=$(processor)
    measured_start=$(milliseconds)
    "$@" >/run/log 2>&1 || { echo "failed: $*"; tail -n 5 /run/log; }
    measured_end=$(milliseconds)
    measured_spent=$(($(processor) - measured_processor))
    measured_bytes=$(($(received) - measured_bytes))
    sync
    echo "result $kind|$measured_step|$((measured_end - measured_start))|$measured_spent|$(awk "BEGIN {
        printf \"%.2f|%.1f\", $measured_bytes / 1000000, ($(sectors) - $measured_sectors) * 512 / 1000000 }")"
}

printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: /data/registry}}\nhttp: {addr: 127.0.0.1:5000}\n' \
    >/run/registry.yml
docker-registry serve /run/registry.yml >/run/registry.log 2>&1 &
until_it python3 -c "import socket; socket.create_connection(('127.0.0.1', 5000))"
skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false oci:/data/layout:app:1 "docker://$image" >/run/log 2>&1 ||
    cat /run/log
kind=ferofs
measured "build --no-tar, once" ferofs build -q -o /data/built --no-tar oci:/data/layout:app:1
ferofs push-index --layers /data/built "$image" >/run/log 2>&1 || cat /run/log
# shellcheck disable=SC2016 # of the shell inside
measured "gzip -dc alone" sh -c 'for blob in /data/layout/blobs/sha256/*; do gzip -dcf "$blob" >/dev/null; done'
echo "note of the layers: $(du -b -c /data/layout/blobs/sha256/* | awk 'END { printf "%.1f", $1 / 1e6 }') MB, indexes $(
    du -b -c /data/built/*.erofs | awk 'END { printf "%.2f", $1 / 1e6 }') MB, access points $(
    du -b -c /data/built/*.points | awk 'END { printf "%.2f", $1 / 1e6 }') MB"
pull() { ctr images pull --local --plain-http --snapshotter "$kind" "$image"; }
start() { ctr run --rm --snapshotter "$kind" "$image" first /usr/bin/python3 -c pass; }
pull_and_start() { pull && start; }
mount_it() { rm -rf "$DISK/upper" "$DISK/upper.work" && ferofs mount --store "$DISK/store" --upper "$DISK/upper" "$image" /run/root; }
start_it() { ctr run --rm --rootfs /run/root first /usr/bin/python3 -c pass; }
mount_and_start() { mount_it && start_it; }

# limited: what is asked of the registry waits from now on, on both ways. unlimited: it does not.
limited() { tc qdisc add dev lo root netem delay 10ms rate 400mbit limit 100000 || exit 1; }
unlimited() { tc qdisc del dev lo root; }

# What the container opens: names of files, of which there.py says how large they are, and would be compressed by themselves.
cat >/run/opened.py <<'END'
import os, sys
opened = {line.split()[-1] for line in open("/proc/self/maps") if "/usr/" in line}
for module in list(sys.modules.values()):
    for path in (getattr(module, "__cached__", None), getattr(module, "__file__", None)):
        if path and os.path.exists(path):
            opened.add(path)
            break
print(*opened)
END
cat >/run/there.py <<'END'
import sys, zlib
top, names = sys.argv[1], sys.stdin.read().split()
contents = [open(top + name, "rb").read() for name in names]
print(f"note files that are opened: {len(names)}, {sum(map(len, contents)) / 1e6:.2f} MB, compressed by themselves "
      f"{sum(len(zlib.compress(content, 6)) for content in contents) / 1e6:.2f} MB")
END

# A machine whose time is that of its instructions skips what it waits for a disk to the next timer, so there is always one.
python3 -c "
import time
while True: time.sleep(0.001)" &

for kind in $KINDS; do
    # Programs are in memory the second time.
    for round in first second; do
        begin ext4
        [ $round = first ] || limited
        case $kind in
        on-demand)
            mkdir -p /run/root "$DISK/store"
            measured "$round: mount and start" mount_and_start
            measured "$round: again" start_it
            ctr run --rm --rootfs /run/root list /usr/bin/python3 -c "$(cat /run/opened.py)" | python3 /run/there.py /run/root
            cat "$DISK/store/log"
            umount /run/root
            ;;
        *)
            measured "$round: pull, unpack and start" pull_and_start
            measured "$round: again" start
            ;;
        esac
        [ $round = first ] || unlimited
        end
    done
done
cp /run/*.log "$FEROFS_OUT"
