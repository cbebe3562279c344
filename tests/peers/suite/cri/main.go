// SPDX-License-Identifier: GPL-2.0-only OR MIT

// What a kubelet asks of containerd, a request at a time: pods, containers and images by the container runtime interface.
// Called by tests/peers/cri.sh as `cri REQUEST ARGUMENT...`; prints what is named in the answer.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const socket = "unix:///run/containerd/containerd.sock"

var (
	ctx      context.Context
	runtime  cri.RuntimeServiceClient
	images   cri.ImageServiceClient
	requests = map[string]func([]string) error{
		"version": version, "pull": pull, "images": list, "rmi": removeImage, "fsinfo": filesystems,
		"pod": pod, "stop-pod": stopPod, "rm-pod": removePod,
		"start": start, "exec": execute, "exit": exit, "rm": remove,
	}
)

func version([]string) error {
	answer, err := runtime.Version(ctx, &cri.VersionRequest{})
	if err == nil {
		fmt.Println(answer.RuntimeName, answer.RuntimeVersion)
	}
	return err
}

func image(name string) *cri.ImageSpec { return &cri.ImageSpec{Image: name} }

// pull IMAGE
func pull(arguments []string) error {
	answer, err := images.PullImage(ctx, &cri.PullImageRequest{Image: image(arguments[0])})
	if err == nil {
		fmt.Println(answer.ImageRef)
	}
	return err
}

// images: names, one a line.
func list([]string) error {
	answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	for _, found := range answer.GetImages() {
		fmt.Println(strings.Join(found.RepoTags, " "))
	}
	return err
}

// rmi IMAGE
func removeImage(arguments []string) error {
	_, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: image(arguments[0])})
	return err
}

// fsinfo: where images are and how much they take.
func filesystems([]string) error {
	answer, err := images.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	for _, found := range answer.GetImageFilesystems() {
		fmt.Println(found.FsId.Mountpoint, found.UsedBytes.Value, found.InodesUsed.Value)
	}
	return err
}

// config is a pod's in the machine's own network. With a user namespace its root is user 100000.
func config(name string, mapped bool) *cri.PodSandboxConfig {
	namespaces := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}
	if mapped {
		ids := []*cri.IDMapping{{HostId: 100000, ContainerId: 0, Length: 65536}}
		namespaces.Network = cri.NamespaceMode_POD
		namespaces.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
	}
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: "/run/cri-logs",
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces}},
	}
}

// pod [-mapped] NAME: prints its ID.
func pod(arguments []string) error {
	flags := flag.NewFlagSet("pod", flag.ExitOnError)
	mapped := flags.Bool("mapped", false, "in a user namespace")
	flags.Parse(arguments)
	answer, err := runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config(flags.Arg(0), *mapped)})
	if err == nil {
		fmt.Println(answer.PodSandboxId)
	}
	return err
}

// stop-pod ID
func stopPod(arguments []string) error {
	_, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: arguments[0]})
	return err
}

// rm-pod ID
func removePod(arguments []string) error {
	_, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: arguments[0]})
	return err
}

// start [-mapped] [-read-only] [-volume IMAGE:PATH] POD NAME IMAGE COMMAND...: prints the container's ID.
func start(arguments []string) error {
	flags := flag.NewFlagSet("start", flag.ExitOnError)
	mapped := flags.Bool("mapped", false, "the pod is in a user namespace")
	readOnly := flags.Bool("read-only", false, "nothing can be written")
	volume := flags.String("volume", "", "an image to mount")
	flags.Parse(arguments)
	arguments = flags.Args()
	sandbox := config(arguments[1], *mapped)
	container := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: arguments[1]},
		Image:    image(arguments[2]),
		Command:  arguments[3:],
		LogPath:  arguments[1] + ".log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			ReadonlyRootfs: *readOnly, NamespaceOptions: sandbox.Linux.SecurityContext.NamespaceOptions,
		}},
	}
	if *volume != "" {
		at := strings.LastIndex(*volume, ":")
		spec := image((*volume)[:at])
		found, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
		if err != nil {
			return err
		}
		if found.Image == nil {
			return fmt.Errorf("there is no image %s", spec.Image)
		}
		mount := &cri.Mount{Image: image(found.Image.Id), ContainerPath: (*volume)[at+1:], Readonly: true}
		container.Mounts = append(container.Mounts, mount)
	}
	answer, err := runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: arguments[0], Config: container, SandboxConfig: sandbox,
	})
	if err != nil {
		return err
	}
	fmt.Println(answer.ContainerId)
	_, err = runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: answer.ContainerId})
	return err
}

// exec ID COMMAND...: runs it in a container, prints what it prints and ends as it does.
func execute(arguments []string) error {
	answer, err := runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: arguments[0], Cmd: arguments[1:], Timeout: 60})
	if err != nil {
		return err
	}
	os.Stdout.Write(answer.Stdout)
	os.Stderr.Write(answer.Stderr)
	os.Exit(int(answer.ExitCode))
	return nil
}

// exit ID: waits until a container has ended and prints its status.
func exit(arguments []string) error {
	for {
		answer, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: arguments[0]})
		if err != nil {
			return err
		}
		if answer.Status.State == cri.ContainerState_CONTAINER_EXITED {
			fmt.Println(answer.Status.ExitCode)
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// rm ID: stops and removes a container.
func remove(arguments []string) error {
	if _, err := runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: arguments[0]}); err != nil {
		return err
	}
	_, err := runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: arguments[0]})
	return err
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 || requests[os.Args[1]] == nil {
		log.Fatal("cri: expected a request")
	}
	limited, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	ctx = limited
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	runtime = cri.NewRuntimeServiceClient(connection)
	images = cri.NewImageServiceClient(connection)
	if err := requests[os.Args[1]](os.Args[2:]); err != nil {
		log.Fatalf("cri: %s: %v", os.Args[1], err)
	}
}
