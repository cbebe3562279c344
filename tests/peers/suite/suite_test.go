// SPDX-License-Identifier: GPL-2.0-only OR MIT

// containerd's own suite for snapshotters, asked of a server through containerd's proxy: one server a case, started by the
// command in FEROFS_SNAPSHOTTER with `--root DIRECTORY --address SOCKET`. Built by tests/vm/make-suite, run by
// tests/peers/suite.sh.
package suite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The suite leaves out one step for servers of this name: renaming a directory of a lower layer, which overlayfs refuses.
const name = "overlayfs"

const patience = 120 * time.Second

func TestSnapshotter(t *testing.T) {
	testsuite.SnapshotterSuite(t, name, serve)
}

// serve starts a server for one case.
func serve(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	words := strings.Fields(os.Getenv("FEROFS_SNAPSHOTTER"))
	if len(words) == 0 {
		return nil, nil, errors.New("FEROFS_SNAPSHOTTER: expected the command that starts a snapshotter")
	}
	socket := root + ".sock"
	server := exec.Command(words[0], append(words[1:], "--root", root, "--address", socket)...)
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	if err := listens(socket, ended); err != nil {
		server.Process.Kill()
		return nil, nil, err
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		server.Process.Kill()
		return nil, nil, err
	}
	stop := func() error {
		connection.Close()
		server.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			server.Process.Kill()
			return errors.New("the server does not end on SIGTERM")
		}
		// Mounts may outlive the server, but not the case.
		return mount.UnmountRecursive(root, 0)
	}
	return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), name), stop, nil
}

// listens waits until somebody does at the socket.
func listens(socket string, ended <-chan error) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if connection, err := net.Dial("unix", socket); err == nil {
			return connection.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the server ended before it listened: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("the server does not listen")
}
