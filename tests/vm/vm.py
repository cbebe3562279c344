#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Boots one virtual machine and runs a script in it.

Called by tests/vm/run, inside the build root, with everything it needs already made. It makes the VM's
own disks and initramfs in a temporary directory, starts QEMU, passes the script's output on to standard
output, keeps the kernel's log, and ends with the script's status, or with

    99   the script succeeded but the kernel's log has a report of a bug
    124  the time was up
    125  the VM did not get as far as reporting a status
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

import qemu
import um

# A line that begins a report of a bug in the kernel, after the time stamp. Text that ferofs logs about
# damaged images begins with its own name and so never looks like one.
REPORT = re.compile(
    rb"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? (?:"
    rb"BUG: |WARNING: |KASAN: |UBSAN: |KFENCE: |INFO: possible |INFO: task .* blocked for more than|INFO: trying to register|"
    rb"INFO: rcu|rcu: INFO: |Oops|general protection fault|Kernel panic|kernel BUG at|watchdog: BUG|unregister_netdevice|"
    rb"=+ WARNING|WARNING: possible|kmemleak: \d+ new suspected|unreferenced object |rust_kernel: panicked|"
    rb"Unable to handle kernel|invalid opcode|divide error|stack segment|list_(?:add|del) corruption|refcount_t: |"
    rb"ODEBUG: |usercopy: |DEBUG_LOCKS_WARN_ON|VFS: Busy inodes|slab \S+ start|page dumped|Bad page state|"
    rb"=+\[ cut here|-+\[ cut here )"
)
REPORT_LINES = 60


class Failure(Exception):
    """Why the VM could not run; the message is for the user."""


def cpio(entries):
    """A newc archive of (name, mode, content), with names relative and their directories implied."""
    archive = bytearray()

    def add(name, mode, content):
        name = name.encode() + b"\0"
        header = "070701" + "".join(
            f"{value:08x}"
            for value in (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        )
        archive.extend(header.encode() + name)
        archive.extend(b"\0" * (-len(archive) % 4))
        archive.extend(content)
        archive.extend(b"\0" * (-len(archive) % 4))

    directories = set()
    for name, mode, content in entries:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in directories:
                directories.add(directory)
                add(directory, stat.S_IFDIR | 0o755, b"")
        add(name, stat.S_IFREG | mode, content)
    add("TRAILER!!!", 0, b"")
    return bytes(archive)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def tree(top, below, keep):
    """The files below a directory as cpio entries below another name."""
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if keep(path):
                yield os.path.join(below, os.path.relpath(path, top)), os.stat(path).st_mode & 0o777, read(path)


def quote(value):
    return "'" + str(value).replace("'", "'\\''") + "'"


def depmod(boot, release, module, work):
    """What modprobe needs to know of the kernel's modules and ours, as cpio entries."""
    out = os.path.join(work, "depmod")
    updates = os.path.join(work, "updates")
    os.makedirs(out)
    os.makedirs(updates)
    if module:
        shutil.copy(module, os.path.join(updates, "ferofs.ko"))
    target = os.path.join(boot, "tree/lib/modules", release, "updates")
    subprocess.run(["mount", "--bind", updates, target], check=True)
    try:
        subprocess.run(["depmod", "-b", os.path.join(boot, "tree"), "-o", out, release], check=True)
    finally:
        subprocess.run(["umount", target], check=True)
    yield from tree(os.path.join(out, "lib/modules", release), "ferofs/depmod", lambda path: True)


def data_disk(path, files, work):
    """A fresh ext4 file system with the files in it. They are bound into one directory, never copied twice."""
    stage = os.path.join(work, "data")
    os.makedirs(stage)
    bound = []
    size = 16 << 30
    try:
        for file in files:
            target = os.path.join(stage, os.path.basename(file))
            if os.path.lexists(target):
                raise Failure(f"two files would both be /data/{os.path.basename(file)}")
            if os.path.isdir(file):
                os.mkdir(target)
                size += 2 * sum(os.lstat(os.path.join(d, f)).st_size for d, _, names in os.walk(file) for f in names)
            else:
                open(target, "wb").close()
                size += 2 * os.path.getsize(file)
            subprocess.run(["mount", "--bind", file, target], check=True)
            bound.append(target)
        # The table of inodes is on a fresh sparse file, so it is zero already.
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", "data", "-J", "size=64",
             "-E", "root_owner=0:0,assume_storage_prezeroed=1,nodiscard", "-d", stage, path, f"{size >> 10}k"],
            check=True)
    finally:
        for target in reversed(bound):
            subprocess.run(["umount", target], check=True)


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


def die_with_parent():
    """QEMU must not outlive this process, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def disks_of(options, work):
    """The machine's disks: (image, name, mode)."""
    disks = [(options.image, "root", "ro"), (os.path.join(options.boot, "modules.img"), "modules", "ro"),
             (os.path.join(work, "data.img"), "data", "rw")]
    if options.out:
        disks.append((os.path.join(work, "out.img"), "out", "rw"))
    disks += [(image, name, "ro") for name, image in (disk.split("=", 1) for disk in options.named)]
    for number, disk in enumerate(options.disk):
        image, _, mode = disk.partition(",")
        disks.append((image, f"disk{number}", mode or "ro"))
    return disks


def command_line(options, work, log_fd, report_fd):
    disks = disks_of(options, work)
    words = ["loglevel=5", "printk.devkmsg=on", "rdinit=/init", "net.ifnames=0"]
    if options.kernel in ("debug", "um"):
        # Without red zones the allocator keeps stale pointers in per-CPU arrays, where kmemleak finds them and
        # takes what leaked for referenced.
        words.append("slab_debug=Z")
    if options.kernel == "um":
        return um.command(os.path.join(options.boot, "vmlinuz"), os.path.join(work, "initramfs"), words + options.append, disks,
                          log_fd, report_fd, mem=options.mem, cpus=options.cpus)
    command = qemu.command(
        os.path.join(options.boot, "vmlinuz"), os.path.join(work, "initramfs"), os.path.join(work, "log"),
        words + options.append, disks, mem=options.mem, cpus=options.cpus, kvm=options.kvm, icount=options.icount)
    command += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=report,fd={report_fd}",
                "-device", "virtserialport,chardev=report,name=report"]
    if options.shell:
        command += ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]
    return command


def piped(source):
    """A pipe with what comes from the source, and then a line that ends a shell."""
    reader, writer = os.pipe()

    def copy():
        try:
            with os.fdopen(writer, "wb", 0) as target:
                while data := source.read1(1 << 16):
                    target.write(data)
                target.write(b"\nexit\n")
                # The machine ends the runner; without a reader before that, QEMU would see an end.
                threading.Event().wait()
        except BrokenPipeError:
            pass

    threading.Thread(target=copy, daemon=True).start()
    return reader


class Stream:
    """The script's output as it comes, until the word that only this VM's first process knows."""

    def __init__(self, word):
        self.end = b"\0" + word.encode() + b" "
        self.held = b""
        self.status = None

    def feed(self, data):
        """Takes bytes from the VM and returns those that are the script's."""
        data = self.held + data
        self.held = b""
        at = data.find(self.end)
        if at >= 0:
            rest = data[at + len(self.end):]
            if b"\n" in rest:
                self.status = int(rest.split(b"\n")[0])
            else:
                self.held = data[at:]
            return data[:at]
        for length in range(min(len(self.end) - 1, len(data)), 0, -1):
            if data.endswith(self.end[:length]):
                self.held = data[-length:]
                return data[:-length]
        return data


def reports(log):
    """The reports of bugs in a kernel's log, each with the lines that follow it."""
    lines = log.split(b"\n")
    found = []
    at = 0
    while at < len(lines):
        if REPORT.match(lines[at].rstrip(b"\r")):
            found.append(b"\n".join(line.rstrip(b"\r") for line in lines[max(0, at - 3):at + REPORT_LINES]))
            at += REPORT_LINES
        else:
            at += 1
    return found


def run(options, work):
    word = secrets.token_hex(16)
    rows, columns = (shutil.get_terminal_size().lines, shutil.get_terminal_size().columns)
    environment = {
        "FEROFS_KERNEL": options.kernel, "WORD": word, "WANT_OUT": "yes" if options.out else "",
        "WANT_SHELL": "yes" if options.shell else "", "ROWS": rows, "COLS": columns,
        # Where disks have no serial numbers.
        "DISKS": " ".join(name for _, name, _ in disks_of(options, work)) if options.kernel == "um" else "",
        "TERM": os.environ.get("TERM", "linux") if sys.stdout.isatty() else "dumb", "LEAKS": "yes" if options.leaks else "no",
    }
    if options.script:
        environment["SCRIPT"] = "/ferofs/script/" + os.path.basename(options.script)
    here = os.path.dirname(os.path.abspath(__file__))
    # In the root file system it starts once more from where the script is.
    entries = [("init", 0o755, read(os.path.join(here, "init"))),
               ("ferofs/init", 0o755, read(os.path.join(here, "init"))),
               ("ferofs/env", 0o644, "".join(f"{k}={quote(v)}\n" for k, v in environment.items()).encode())]
    if options.script:
        entries.append(("ferofs/script/" + os.path.basename(options.script), 0o644, read(options.script)))
    if options.module:
        entries.append(("ferofs/ferofs.ko", 0o644, read(options.module)))
    for tool in options.tool:
        entries.append(("ferofs/bin/" + os.path.basename(tool), 0o755, read(tool)))
    entries += tree(os.path.dirname(here), "ferofs/tests", lambda path: path.endswith((".sh", ".py", ".seeds")))
    entries += depmod(options.boot, options.release, options.module, work)
    with open(os.path.join(work, "initramfs"), "wb") as file:
        file.write(read(os.path.join(options.boot, "initramfs")))
        file.write(cpio(entries))
    data_disk(os.path.join(work, "data.img"), options.file, work)
    if options.out:
        sparse(os.path.join(work, "out.img"), 64 << 30)
    sparse(os.path.join(work, "log"), 0)

    ours, theirs = socket.socketpair()
    # A prompt ends with its input: the shell in the machine cannot see the end of what is no terminal.
    terminal = piped(sys.stdin.buffer) if options.shell and not sys.stdin.isatty() else None
    deadline = time.monotonic() + options.timeout
    with open(os.path.join(work, "qemu"), "wb") as errors, open(os.path.join(work, "log"), "wb") as log:
        machine = subprocess.Popen(
            command_line(options, work, log.fileno(), theirs.fileno()), pass_fds=[log.fileno(), theirs.fileno()],
            stdin=(terminal or None) if options.shell else subprocess.DEVNULL, stdout=None if options.shell else errors,
            stderr=errors, preexec_fn=die_with_parent)
    theirs.close()
    if terminal:
        os.close(terminal)
    stream = Stream(word)
    timed_out = False
    try:
        while stream.status is None:
            left = deadline - time.monotonic()
            if left <= 0 and not options.shell:
                timed_out = True
                break
            ready, _, _ = select.select([ours], [], [], None if options.shell else left)
            if not ready:
                continue
            data = ours.recv(1 << 18)
            if not data:
                break
            sys.stdout.buffer.write(stream.feed(data))
            sys.stdout.buffer.flush()
        if stream.status is not None:
            wait_for_log(os.path.join(work, "log"), word.encode())
    finally:
        machine.terminate()
        try:
            machine.wait(5)
        except subprocess.TimeoutExpired:
            machine.kill()
            machine.wait()
    return verdict(options, work, stream.status, timed_out)


def wait_for_log(path, word):
    """The serial line may lag behind the report: waits until the kernel's last word is in the log."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if word in read(path):
            return
        time.sleep(0.02)


def verdict(options, work, status, timed_out):
    log = read(os.path.join(work, "log"))
    if options.log:
        with open(options.log, "wb") as file:
            file.write(log)

    if options.kernel == "um" and (end := log.find(b"ferofs-init: end")) >= 0:
        # How it ends when it is told to is not what it was tested for.
        log = log[:log.find(b"\n", end) + 1]

    def tell(text):
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)

    def tail(lines):
        return b"\n".join(line.rstrip(b"\r") for line in log.split(b"\n")[-lines:]).decode(errors="replace")

    found = reports(log)
    for report in found[:3]:
        tell("--- the kernel reports ---\n" + report.decode(errors="replace"))
    if len(found) > 3:
        tell(f"--- and {len(found) - 3} more reports ---")
    if timed_out:
        tell(f"--- no end after {options.timeout} seconds; the end of the kernel's log ---\n" + tail(40))
        return 124
    if status is None:
        tell("--- the VM ended before the script did; the end of the kernel's log ---\n" + tail(40)
             + "\n" + read(os.path.join(work, "qemu")).decode(errors="replace"))
        return 125
    if options.out:
        subprocess.run(["tar", "--no-same-owner", "-xf", os.path.join(work, "out.img"), "-C", options.out], check=True)
    if found and status == 0:
        return 99
    return status


@contextlib.contextmanager
def working_directory(top):
    """A directory for this run, locked as long as the run lasts. Removes those that nobody has locked, which
    runs that were killed have left behind."""
    with open(os.path.join(top, "vm.lock"), "wb") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for name in os.listdir(top):
            if name.startswith("vm-"):
                try:
                    with open(os.path.join(top, name, "lock"), "wb") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(os.path.join(top, name), ignore_errors=True)
                except OSError:
                    pass
        work = tempfile.mkdtemp(prefix="vm-", dir=top)
        lock = open(os.path.join(work, "lock"), "wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--boot", required=True, help="what make-boot made of the kernel")
    parser.add_argument("--image", required=True)
    parser.add_argument("--module")
    parser.add_argument("--tool", action="append", default=[])
    parser.add_argument("--mem", default="1g")
    parser.add_argument("--cpus", default="2")
    parser.add_argument("--timeout", type=int, default=600)
    parser.add_argument("--append", action="append", default=[])
    parser.add_argument("--disk", action="append", default=[])
    parser.add_argument("--named", action="append", default=[], help="NAME=IMAGE: a disk by its serial number")
    parser.add_argument("--out")
    parser.add_argument("--log")
    parser.add_argument("--icount", action="store_true")
    parser.add_argument("--kvm", action="store_true")
    parser.add_argument("--shell", action="store_true")
    parser.add_argument("--leaks", action="store_true")
    parser.add_argument("--script")
    parser.add_argument("file", nargs="*")
    options = parser.parse_args()
    options.release = read(os.path.join(options.boot, "release")).decode().strip()

    temporary = os.path.join(os.environ["FEROFS_CACHE"], "tmp")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with working_directory(temporary) as work:
        try:
            return run(options, work)
        except (Failure, OSError, subprocess.CalledProcessError) as failure:
            print(f"vm: {failure}", file=sys.stderr)
            return 125
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
