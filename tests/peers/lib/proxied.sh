# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# How containerd reaches ferofs' server, for the tests and benchmarks of both; they source it.

# shellcheck disable=SC2034 # for who sources it
ROOT=/var/lib/containerd-ferofs-grpc
SOCKET=/run/containerd-ferofs-grpc/containerd-ferofs-grpc.sock

# proxied DIFFER...: writes /etc/containerd/config.toml with the server as snapshotter and differ. The differs are asked
# in this order; what is imported for the snapshotter is applied by the first.
proxied() {
    mkdir -p /etc/containerd
    proxied_differs=$(printf '"%s", ' "$@")
    cat >/etc/containerd/config.toml <<END2
version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[proxy_plugins.ferofs]
  type = "snapshot"
  address = "$SOCKET"
  capabilities = ["rebase", "remap-ids"]
  [proxy_plugins.ferofs.exports]
    root = "$ROOT"
[proxy_plugins.ferofs-diff]
  type = "diff"
  address = "$SOCKET"
[plugins."io.containerd.service.v1.diff-service"]
  default = [${proxied_differs%, }]
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "ferofs"
    differ = "$1"
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "overlayfs"
    differ = "walking"
END2
}
