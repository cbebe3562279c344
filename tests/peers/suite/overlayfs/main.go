// SPDX-License-Identifier: GPL-2.0-only OR MIT

// containerd's overlayfs snapshotter as a server of its own: what the suite is tried with, so that a failure with ferofs'
// server is not one of the suite. Called as the suite calls a server.
package main

import (
	"flag"
	"log"
	"net"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"google.golang.org/grpc"
)

func main() {
	root := flag.String("root", "", "where its state is")
	address := flag.String("address", "", "the socket")
	flag.Parse()
	snapshotter, err := overlay.NewSnapshotter(*root)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	api.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", *address)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}
