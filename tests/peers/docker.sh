#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# An unmodified Docker that keeps its images in containerd, with ferofs' snapshotter and differ: images are loaded, run,
# built upon by the BuildKit in Docker, committed, saved and removed; and what came out is what comes out with overlayfs.

# shellcheck disable=SC2317 # `check` calls the functions
SNAPSHOTTER=ferofs
. "$FEROFS_TESTS/peers/lib/containerd.sh"
. "$FEROFS_TESTS/peers/lib/proxied.sh"
versions docker.io docker-buildx containerd
images
modprobe overlay
modprobe loop
ip link set lo up
truncate -s 6G state.img
mkdir state
mkfs.ext4 -q state.img
mount -o loop state.img state >output 2>&1 || { fail "a disk" output; finish; }
mkdir state/containerd state/ferofs
for place in containerd containerd-ferofs-grpc; do
    rm -rf /var/lib/$place && mkdir /var/lib/$place && mount --bind "state/$(echo $place | sed 's/containerd-.*/ferofs/')" /var/lib/$place
done
proxied ferofs-diff walking

serve() {
    containerd-ferofs-grpc --log-level info >>"$WORK/server.log" 2>&1 &
    SERVED=$!
    within 60 containerd-ferofs-grpc store ls
}

# dockerd_with SNAPSHOTTER: starts Docker.
dockerd_with() {
    cat >docker.json <<END2
{
    "features": {"containerd-snapshotter": true}, "storage-driver": "$1", "containerd": "/run/containerd/containerd.sock",
    "bridge": "none", "iptables": false, "ip6tables": false, "data-root": "$WORK/state/docker-$1"
}
END2
    dockerd --config-file docker.json >>"docker-$1.log" 2>&1 &
    DOCKER=$!
    within 90 docker version
}

docker_stop() {
    kill "$DOCKER"
    wait "$DOCKER" 2>/dev/null
}

# says TEXT COMMAND...: whether it prints the text alone.
says() {
    says_text=$1
    shift
    "$@" >printed && cat printed && [ "$(cat printed)" = "$says_text" ]
}

# archive NAME: the image's archive with the name that Docker wants, NAME.tar.
archive() {
    python3 - "$SHARED/images/$1.tar" "$1.tar" <<'END2'
import io, sys, tarfile
with tarfile.open(sys.argv[1]) as old, tarfile.open(sys.argv[2], "w") as new:
    for member in old:
        data = old.extractfile(member).read()
        if member.name == "index.json":
            data = data.replace(b'"local/', b'"docker.io/local/')
            member.size = len(data)
        new.addfile(member, io.BytesIO(data))
END2
}

mkdir -p context/copied
echo "from the context" >context/copied/file
printf '#!/bin/sh\necho started\n' >context/start && chmod 755 context/start
ln -s file context/copied/link
cat >context/Dockerfile <<'END2'
FROM local/app:1 AS first
RUN ["/bin/busybox", "sh", "-c", "echo built >/etc/built && rm -r /srv/kept && mkdir /srv/kept && echo new >/srv/kept/new"]
COPY copied /srv/copied
RUN ["/usr/bin/python3", "-c", "import os; os.setxattr('/etc/built', 'user.made', b'by python'); os.chown('/srv/copied/file', 12, 34)"]

FROM first
COPY --from=first /etc/built /etc/again
COPY start /bin/start
RUN ["/bin/busybox", "rm", "/srv/copied/link"]
CMD ["/bin/busybox", "sh", "/bin/start"]
END2

# contents NAME IMAGE: what is in an image's root directory, one line an entry, but for what Docker and the hour make.
contents() {
    docker create --network none --name contents "$2" /bin/true >output 2>&1 && docker export -o contents.tar contents &&
        docker rm contents >output 2>&1 && python3 - contents.tar >"$1" <<'END2'
import hashlib, sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    for member in sorted(tar, key=lambda member: member.name):
        if member.name.split("/")[0] in ("dev", "proc", "sys") or member.name in (".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
            continue
        data = hashlib.sha256(tar.extractfile(member).read()).hexdigest() if member.isfile() else ""
        xattrs = sorted((key, value) for key, value in member.pax_headers.items() if "xattr" in key)
        print(member.name, member.type, oct(member.mode), member.uid, member.gid, member.linkname, data, xattrs)
END2
}

for image in app kinds; do archive $image; done
check "the server starts" serve
check "containerd starts" start
for driver in ferofs overlayfs; do
    check "$driver: Docker starts" dockerd_with $driver
    docker info --format '{{.Driver}}' >driver 2>&1
    check "$driver: it says so" [ "$(cat driver)" = $driver ]
    for image in app kinds; do check "$driver: $image is loaded" docker load -i $image.tar; done
    check "$driver: python prints" says hello docker run --rm --network none local/app:1 /usr/bin/python3 -c 'print("hello")'
    check "$driver: an image is built" env DOCKER_BUILDKIT=1 docker build --network none --provenance=false -t local/built:1 context
    check "$driver: and starts" says started docker run --rm --network none local/built:1
    check "$driver: what a container changed is an image" sh -c \
        "docker run --network none --name changed local/built:1 /bin/busybox sh -c 'echo more >/etc/more; rm /srv/copied/file' &&
        docker diff changed | sort >$driver.diff && docker commit changed local/committed:1 && docker rm changed"
    for image in app kinds built committed; do
        check "$driver: what is in $image is written" contents $driver.$image local/$image:1
    done
    check "$driver: an image is saved" docker save -o saved.tar local/committed:1
    check "$driver: and removed" docker rmi local/committed:1 local/built:1
    check "$driver: and loaded" docker load -i saved.tar
    check "$driver: and is what it was" contents $driver.again local/committed:1
    cmp $driver.committed $driver.again >output 2>&1 || fail "$driver: saved and loaded it is the same" output
    if [ $driver = ferofs ]; then
        check "ferofs has been asked" [ "$(ctr -n moby snapshots --snapshotter ferofs ls | wc -l)" -gt 3 ]
        check "no layer was unpacked" [ -z "$(find /var/lib/containerd-ferofs-grpc -xdev -name python3)" ]
    fi
    docker ps -aq | xargs -r docker rm -f >output 2>&1
    docker images -q | sort -u | xargs -r docker rmi -f >output 2>&1
    docker builder prune -af >output 2>&1
    docker_stop
done
for image in app kinds built committed; do
    if cmp "overlayfs.$image" "ferofs.$image" >output 2>&1; then
        pass "$image has in it what it has with overlayfs ($(wc -l <"ferofs.$image") entries)"
    else
        diff "overlayfs.$image" "ferofs.$image" | head -n 10 >output
        fail "$image has in it what it has with overlayfs" output
    fi
done
check "docker diff says what it says with overlayfs" cmp overlayfs.diff ferofs.diff
gone() {
    [ "$(ctr -n moby snapshots --snapshotter ferofs ls | wc -l)" = 1 ] && [ "$(users)" = 0 ]
}
check "no snapshot is left, and nobody uses the module" within 60 gone
# shellcheck disable=SC2119 # no signal but the usual one
stop
kill "$SERVED"
wait "$SERVED" 2>/dev/null
umount /var/lib/containerd /var/lib/containerd-ferofs-grpc
check "the disk is unmounted" umount state
check "the module can be removed" rmmod ferofs
grep -E 'level=(error|fatal)' containerd.log docker-ferofs.log | tail -n 5 | cut -c 1-300 | sed 's/^/# /'
finish
