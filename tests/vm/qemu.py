#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""QEMU's command line: what all virtual machines of the tests have in common.

Called by vm.py, which adds what its own machines have. tests/packages/boot runs it inside the build root, for machines
with a kernel, an initramfs and disks of their own; then it ends with QEMU's status, or with 124 if the time was up.
"""

import argparse
import subprocess
import sys


def drive(image, name, mode):
    """The options for a disk: its file, its serial number, and whether it is ro, rw, or as it was before ever after."""
    # Disks that are only read may be in use by several machines; the others are thrown away or not, but never have to
    # survive a crash of this one.
    locking = "auto" if mode == "rw" else "off"
    how = {"ro": "readonly=on", "rw": "readonly=off", "snapshot": "snapshot=on"}[mode]
    return ["-drive", f"file.driver=file,file.filename={image},file.locking={locking},format=raw,if=none,"
                      f"id={name},cache=unsafe,{how},discard=unmap",
            "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def command(kernel, initramfs, log, words, disks, *, mem="1g", cpus="2", kvm=False, icount=False):
    """The program and its options. The words are added to the kernel's command line; a disk is (image, name, mode)."""
    words = ["console=ttyS0", "panic=-1", "mitigations=off", "random.trust_cpu=on", "no_timer_check",
             *([] if kvm else ["tsc=reliable"]), *words]
    options = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-machine", "q35,vmport=off", "-m", mem]
    if kvm:
        options += ["-accel", "kvm", "-cpu", "host", "-smp", cpus]
    elif icount:
        options += ["-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-smp", "1", "-icount", "shift=0,sleep=off"]
    else:
        options += ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", cpus]
    options += ["-kernel", kernel, "-initrd", initramfs, "-append", " ".join(words),
                "-chardev", f"file,id=log,path={log}", "-serial", "chardev:log", "-device", "virtio-rng-pci"]
    for disk in disks:
        options += drive(*disk)
    return options


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--initramfs", required=True)
    parser.add_argument("--log", required=True, help="where what comes out of the serial line goes")
    parser.add_argument("--disk", action="append", default=[], help="IMAGE,ro or IMAGE,snapshot; repeated for several")
    parser.add_argument("--mem", default="1g")
    parser.add_argument("--timeout", type=int, default=600)
    parser.add_argument("word", nargs="*", help="for the kernel's command line")
    options = parser.parse_args()
    disks = []
    for number, disk in enumerate(options.disk):
        image, _, mode = disk.rpartition(",")
        disks.append((image, f"disk{number}", mode))
    machine = command(options.kernel, options.initramfs, options.log, options.word, disks, mem=options.mem)
    try:
        return subprocess.run(machine, stdin=subprocess.DEVNULL, timeout=options.timeout).returncode
    except subprocess.TimeoutExpired:
        return 124


if __name__ == "__main__":
    sys.exit(main())
