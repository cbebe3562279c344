# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The command line of a kernel that is a program: User Mode Linux.

Called by vm.py for the kernel `um`. Nothing is emulated: what runs in it runs on the processor of this machine, and its system
calls are the kernel's, which is a process here. It wants no device, no /dev/kvm and no rights.
"""

import string


def command(kernel, initramfs, words, disks, log_fd, report_fd, *, mem="1g", cpus="2"):
    """The program and its options. The words are added to the kernel's command line; a disk is (image, name, mode). The disks
    are /dev/ubda, /dev/ubdb and so on, in this order: they have no serial numbers. What the kernel says goes to one
    descriptor, and what is written to /dev/ttyS0 to the other."""
    options = [kernel, f"mem={mem}", f"ncpus={cpus}", "seccomp=on", f"initrd={initramfs}",
               "con=null", f"con0=null,fd:{log_fd}", "ssl=null", f"ssl0=null,fd:{report_fd}",
               "console=tty0", "panic=-1", *words]
    for letter, (image, _, mode) in zip(string.ascii_lowercase, disks):
        # Not locked, as several machines may have the same one to read.
        options.append(f"ubd{letter}{'rc' if mode == 'ro' else 'ct'}={image}")
    return options
