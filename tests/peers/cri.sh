#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 1800
#
# What a kubelet does with containerd, by its container runtime interface, on ferofs' snapshotter and differ: images from a
# registry, pods, containers that write and that cannot, an image as a volume, a pod in a user namespace, containers whose
# layers come while they run.

# shellcheck disable=SC2317 # `check` calls the functions
SNAPSHOTTER=ferofs
. "$FEROFS_TESTS/peers/lib/containerd.sh"
. "$FEROFS_TESTS/peers/lib/proxied.sh"
versions containerd runc docker-registry
images
modprobe overlay
ip link set lo up
mkdir suite
mount -o ro /dev/disk/by-id/virtio-suite suite >output 2>&1 || { fail "the disk with the client" output; finish; }
grep cri-api suite/packages | sed 's/^/# /'
modprobe loop
truncate -s 4G state.img
mkdir state
mkfs.ext4 -q state.img
mount -o loop state.img state >output 2>&1 || { fail "a disk" output; finish; }
mkdir state/containerd state/ferofs state/registry
for place in containerd containerd-ferofs-grpc; do
    rm -rf /var/lib/$place && mkdir /var/lib/$place && mount --bind "state/$(echo $place | sed 's/containerd-.*/ferofs/')" /var/lib/$place
done

AT=127.0.0.1:5000
proxied ferofs-diff walking
sed -i '/^disabled_plugins/d' /etc/containerd/config.toml
cat >>/etc/containerd/config.toml <<END2
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "ferofs"
  disable_snapshot_annotations = false
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "$AT/some/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
END2
mkdir -p "/etc/containerd/certs.d/$AT"
echo "server = \"http://$AT\"" >"/etc/containerd/certs.d/$AT/hosts.toml"

serve() {
    containerd-ferofs-grpc --log-level info >>"$WORK/server.log" 2>&1 &
    SERVED=$!
    within 60 containerd-ferofs-grpc store ls
}

cri() {
    suite/cri "$@"
}

# named FILE COMMAND...: keeps what the command prints last in the file.
named() {
    named_file=$1
    shift
    "$@" >output || return
    tail -n 1 output >"$named_file"
}

# says TEXT COMMAND...: whether it prints the text alone.
says() {
    says_text=$1
    shift
    "$@" >printed && cat printed && [ "$(cat printed)" = "$says_text" ]
}

# bring NAME: an image of the layout to the registry.
bring() {
    skopeo --insecure-policy copy --dest-tls-verify=false --preserve-digests "oci:$SHARED/images/layout:$1:1" \
        "docker://$AT/some/$1:1"
}

# A network for pods that are not in the machine's own: none, and an address that is nobody's.
mkdir -p /opt/cni/bin /etc/cni/net.d
cat >/opt/cni/bin/nowhere <<'END2'
#!/bin/sh
case $CNI_COMMAND in
ADD)
    printf '{"cniVersion": "1.0.0", "interfaces": [{"name": "%s", "sandbox": "%s"}], "ips": [{"address": "192.0.2.7/24", "interface": 0}]}\n' \
        "$CNI_IFNAME" "$CNI_NETNS" ;;
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
esac
END2
chmod 755 /opt/cni/bin/nowhere
cp /opt/cni/bin/nowhere /opt/cni/bin/loopback
echo '{"cniVersion": "1.0.0", "name": "nowhere", "plugins": [{"type": "nowhere"}]}' >/etc/cni/net.d/10-nowhere.conflist

check "the registry starts" registry 5000 "$WORK/state/registry"
for image in app deep kinds; do check "$image is there" bring $image; done
# What holds the namespaces of a pod: a program that waits.
python3 - "$SHARED/images" pause.tar <<'END2' >output 2>&1 || fail "an image for pods" output
import os, sys
sys.path.insert(0, os.path.join(os.environ["FEROFS_TESTS"], "peers/lib"))
import images
layer = images.Layer()
with open("/usr/bin/busybox", "rb") as file:
    layer.add("bin/busybox", content=file.read(), mode=0o755)
for name in ("dev", "proc", "sys", "run", "tmp", "etc"):
    layer.directory(name)
layout = images.Layout("pause")
layout.command = ["/bin/busybox", "sleep", "1000000"]
layout.image("pause:1", [(layer.finish(), "gzip")])
END2
check "the pods' image is there" skopeo --insecure-policy copy --dest-tls-verify=false oci:pause:pause:1 "docker://$AT/some/pause:1"
check "the server starts" serve
check "containerd starts" start
check "it answers a kubelet" within 60 cri version
for image in pause app deep kinds; do check "$image is pulled" cri pull "$AT/some/$image:1"; done
check "no layer was unpacked" [ -z "$(find /var/lib/containerd-ferofs-grpc -xdev -name 'step-*')" ]
check "the images are listed" sh -c "suite/cri images | grep -c $AT/some/ | grep -qx 4"
cri fsinfo >images.used 2>&1
sed 's/^/# /' images.used
check "images take room where the server has them" sh -c "grep -q '^/var/lib/containerd-ferofs-grpc [0-9]\{7,\} ' images.used"

check "a pod starts" named pod cri pod first
check "a container of 2 layers starts" named app cri start "$(cat pod)" app "$AT/some/app:1" /bin/busybox sleep 100000
check "ferofs is what is mounted" [ "$(users)" -gt 0 ]
check "python runs in it" says hello cri exec "$(cat app)" /usr/bin/python3 -c 'print("hello")'
check "it can write" says written cri exec "$(cat app)" /bin/busybox sh -c 'echo written >/etc/new && cat /etc/new'
check "one of 100 layers starts, that cannot write" named deep cri start -read-only "$(cat pod)" deep "$AT/some/deep:1" \
    /bin/busybox sleep 100000
check "it has the last layer's file" says 99 cri exec "$(cat deep)" /bin/busybox cat /steps/newest
check "and nothing can be written" sh -c "! suite/cri exec '$(cat deep)' /bin/busybox touch /new"
check "one with an image as volume starts" named volume cri start -volume "$AT/some/kinds:1:/other" "$(cat pod)" volume \
    "$AT/some/app:1" /bin/busybox sleep 100000
check "the image is there" says "a name in UTF-8" cri exec "$(cat volume)" /bin/busybox cat /other/srv/ümläut
check "and cannot be written to" sh -c "! suite/cri exec '$(cat volume)' /bin/busybox touch /other/new"
check "one that ends" named short cri start "$(cat pod)" short "$AT/some/app:1" /bin/busybox sh -c 'exit 7'
check "has its status" says 7 cri exit "$(cat short)"

check "a pod in a user namespace starts" named mapped cri pod -mapped second
check "a container in it" named inside cri start -mapped "$(cat mapped)" inside "$AT/some/app:1" /bin/busybox sleep 100000
check "its root is another user outside" says "         0     100000      65536" cri exec "$(cat inside)" /bin/busybox cat /proc/self/uid_map
check "files there are root's" says "0 0" cri exec "$(cat inside)" /bin/busybox stat -c '%u %g' /usr/bin/busybox
check "and what it writes is" says "0 0" cri exec "$(cat inside)" /bin/busybox sh -c 'echo >/etc/new; /bin/busybox stat -c "%u %g" /etc/new'

kill -KILL "$SERVED"
wait "$SERVED" 2>/dev/null
check "without the server containers run on" says still cri exec "$(cat app)" /usr/bin/python3 -c 'print("still")'
again() {
    serve && within 60 ctr -n k8s.io snapshots --snapshotter ferofs ls
}
check "the server starts again" again
check "a container starts again" named again cri start "$(cat pod)" again "$AT/some/deep:1" /bin/busybox sleep 100000

for container in app deep volume short inside again; do check "$container is removed" cri rm "$(cat $container)"; done
for pod in pod mapped; do
    check "the $pod is stopped" cri stop-pod "$(cat $pod)"
    check "and removed" cri rm-pod "$(cat $pod)"
done
for image in app deep kinds pause; do check "$image is removed" cri rmi "$AT/some/$image:1"; done
gone() {
    [ "$(ctr -n k8s.io snapshots --snapshotter ferofs ls | wc -l)" = 1 ] && [ "$(users)" = 0 ]
}
check "no snapshot is left, and nobody uses the module" within 60 gone

# --- layers that come as they are read ----------------------------------------------------------------------------------
LAYERS=$ROOT/layers
lazily() {
    kill "$SERVED" && wait "$SERVED"
    mkdir -p /etc/containerd-ferofs-grpc
    printf '[on_demand]\nenabled = true\ncomplete = false\n' >/etc/containerd-ferofs-grpc/config.toml
    again
}

# servers: the processes that serve layers. are_servers NUMBER: whether they are so many.
servers() {
    for process in /proc/[0-9]*; do
        tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q '^containerd-ferofs-grpc serve ' && echo "${process#/proc/}"
    done
}

are_servers() {
    servers >serving
    cat serving
    [ "$(wc -l <serving)" -eq "$1" ]
}

# no_tars: whether nothing is there of any layer. in_part: whether one is there in part. no_layers: whether nothing is known of
# any.
no_tars() {
    [ -z "$(find "$LAYERS" -name '*.tar' -o -name '*.sparse')" ]
}

in_part() {
    for file in "$LAYERS"/*.sparse; do
        [ $(($(stat -c '%b * 512' "$file"))) -lt "$(stat -c %s "$file")" ] && return
    done
    return 1
}

no_layers() {
    ls "$LAYERS"
    [ "$(ls "$LAYERS")" = lock ]
}

# layers NAME: where the layout has the layers of an image, the lowest one first. fetched NAME: whether containerd has any.
layers() {
    python3 - "$SHARED/images/layout" "$1:1" <<'END2'
import json, os, sys
layout, name = sys.argv[1:]
blob = lambda digest: os.path.join(layout, "blobs", *digest.split(":"))
index = json.load(open(os.path.join(layout, "index.json")))
[found] = [m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == name]
for layer in json.load(open(blob(found["digest"])))["layers"]:
    print(blob(layer["digest"]))
END2
}

fetched() {
    layers "$1" | while read -r layer; do
        [ ! -e "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/${layer##*/}" ] || echo "$layer"
    done >there
    wc -l <there
    [ -s there ]
}

# sums CONTAINER: what all files of the container's image are, read in it, but for what Python writes. As tar unpacks them, they
# are the same.
sums() {
    cri exec "$(cat "$1")" /bin/busybox find /usr /srv -type f ! -name '*.pyc' -exec /bin/busybox sha256sum '{}' + >sums || return
    echo "$(wc -l <sums) files"
    sed -i 's|  /|  reference/|' sums
    [ "$(wc -l <sums)" -gt 30 ] && sha256sum --quiet -c sums
}

mkdir reference
layers app >app.layers
while read -r layer; do
    # A directory, which is a file in the next layer.
    rm -rf reference/srv/becomes-file
    tar -xf "$layer" -C reference >output 2>&1 || fail "GNU tar unpacks $layer" output
done <app.layers
check "the server starts with layers on demand" lazily
check "an image without them is pulled" cri pull "$AT/some/app:1"
check "with its layers" fetched app
check "and removed" cri rmi "$AT/some/app:1"
check "no snapshot is left of it" within 60 gone
check "indexes and access points are made of it, and stored beside it" ferofs push-index -q --make --span 100000 --layers built "$AT/some/app:1"
# What was found of an image is remembered for a minute.
check "the server starts again" lazily
check "it is pulled" cri pull "$AT/some/app:1"
check "without its layers" no_tars
refuses "nor has containerd any" "^0$" fetched app
check "the pods' image is pulled" cri pull "$AT/some/pause:1"
check "a pod starts" named pod cri pod lazy
check "a container of it starts" named app cri start "$(cat pod)" app "$AT/some/app:1" /bin/busybox sleep 100000
check "by one server" are_servers 1
check "python runs in it" says hello cri exec "$(cat app)" /usr/bin/python3 -c 'print("hello")'
du -k "$LAYERS"/*.sparse | sed 's/^/# KiB: /'
check "though not all of it is there" in_part
check "the store says so" sh -c 'containerd-ferofs-grpc store ls | grep "on demand"'
kill -KILL "$(servers)"
check "who serves it is killed, and another begins" within 60 are_servers 1
check "which gets what nobody read before" says "kept 0" cri exec "$(cat app)" /bin/busybox head -n 1 /srv/kept/0
kill -KILL "$SERVED"
wait "$SERVED" 2>/dev/null
check "so it does without the daemon" says "two names" cri exec "$(cat app)" /bin/busybox head -n 1 /srv/hard-too
kill -KILL "$(servers)"
refuses "with nobody what is not there is an error" "Input/output error" find "$ROOT"/snapshots/*/lower/usr -type f -exec cat '{}' +
check "the daemon starts again" again
check "and has it served" within 60 are_servers 1
check "all of it is right" sums app
check "a second container of it starts" named again cri start "$(cat pod)" again "$AT/some/app:1" /bin/busybox sleep 100000
check "and runs" says hello cri exec "$(cat again)" /usr/bin/python3 -c 'print("hello")'
for container in app again; do check "$container is removed" cri rm "$(cat $container)"; done
check "the pod is stopped" cri stop-pod "$(cat pod)"
check "and removed" cri rm-pod "$(cat pod)"
for image in app pause; do check "$image is removed" cri rmi "$AT/some/$image:1"; done
check "no snapshot is left" within 60 gone
check "nobody serves anything" within 60 are_servers 0
check "nothing is left of layers" no_layers

# --- and of which all comes after all -----------------------------------------------------------------------------------
# whole NUMBER: whether so many tars are there, and none in part. (The layer of the image for pods is kept as an image.)
whole() {
    ls -s "$LAYERS"
    [ -z "$(find "$LAYERS" -name '*.sparse')" ] && [ "$(find "$LAYERS" -name '*.tar' | wc -l)" = "$1" ]
}

for image in app pause; do check "$image is pulled" cri pull "$AT/some/$image:1"; done
check "a pod starts" named pod cri pod whole
check "a container of it starts" named app cri start "$(cat pod)" app "$AT/some/app:1" /bin/busybox sleep 100000
check "python runs in it" says hello cri exec "$(cat app)" /usr/bin/python3 -c 'print("hello")'
check "not all of it is there" in_part
# Of its snapshots containerd says itself that they are there, and asks nobody.
kill "$REGISTRY" && wait "$REGISTRY" 2>/dev/null
kill -KILL "$SERVED" "$(servers)"
wait "$SERVED" 2>/dev/null
refuses "without a registry what is not there is an error" "Input/output error" find "$ROOT"/snapshots/*/lower/usr -type f -exec cat '{}' +
check "an archive of the same image is imported" ctr -n k8s.io images import --no-unpack "$SHARED/images/app.tar"
check "the daemon starts again" again
check "then all layers are there" within 120 whole 2
check "and nobody serves them" within 60 are_servers 0
check "all of it is right" sums app
check "a container starts" named new cri start "$(cat pod)" new "$AT/some/app:1" /bin/busybox sleep 100000
check "and runs" says hello cri exec "$(cat new)" /usr/bin/python3 -c 'print("hello")'
check "all layers are what they should be" containerd-ferofs-grpc store verify
for container in app new; do check "$container is removed" cri rm "$(cat $container)"; done
check "the pod is stopped" cri stop-pod "$(cat pod)"
check "and removed" cri rm-pod "$(cat pod)"
check "the archive's image is removed" ctr -n k8s.io images rm --sync local/app:1
check "so is the other" cri rmi "$AT/some/app:1"

check "the registry starts again" registry 5000 "$WORK/state/registry"
check "the image is pulled" within 60 cri pull "$AT/some/app:1"
refuses "without its layers" "^0$" fetched app
check "another namespace has it all, with nobody to say that it can come on demand" ctr -n other images pull --local \
    --plain-http --snapshotter ferofs "$AT/some/app:1"
check "with its layers" fetched app
check "then all layers are there" within 120 whole 2
kill "$REGISTRY" && wait "$REGISTRY" 2>/dev/null
check "a pod starts" named pod cri pod alone
check "a container of it starts without a registry" named app cri start "$(cat pod)" app "$AT/some/app:1" /bin/busybox sleep 100000
check "served by nobody" are_servers 0
check "and all of it is right" sums app
check "it is removed" cri rm "$(cat app)"
check "the pod is stopped" cri stop-pod "$(cat pod)"
check "and removed" cri rm-pod "$(cat pod)"
check "the other namespace's image is removed" ctr -n other images rm --sync "$AT/some/app:1"
for image in app pause; do check "$image is removed" cri rmi "$AT/some/$image:1"; done
check "no snapshot is left" within 60 gone
check "nobody serves anything" within 60 are_servers 0
check "nothing is left of layers" no_layers

# shellcheck disable=SC2119 # no signal but the usual one
stop
kill "$SERVED"
wait "$SERVED" 2>/dev/null
umount /var/lib/containerd /var/lib/containerd-ferofs-grpc
check "the disk is unmounted" umount state
check "the module can be removed" rmmod ferofs
grep -E 'level=(error|fatal)' containerd.log | tail -n 5 | cut -c 1-300 | sed 's/^/# /'
umount suite
finish
