#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Tests what vm.py makes of a machine's words: reports in the kernel's log, the end of the output.

Called by tests/run, inside the build root.
"""

import unittest

import vm

# As kernels print them.
REPORTS = [
    "BUG: KASAN: slab-use-after-free in iput+0x1d/0x90",
    "BUG: unable to handle page fault for address: ffffffffc0a01000",
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "BUG: sleeping function called from invalid context at mm/filemap.c:100",
    "BUG: scheduling while atomic: mount/123/0x00000002",
    "BUG: Bad page state in process mount  pfn:12345",
    "KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]",
    "UBSAN: array-index-out-of-bounds in fs/namei.c:10:2",
    "WARNING: possible circular locking dependency detected",
    "WARNING: possible recursive locking detected",
    "WARNING: bad unlock balance detected!",
    "WARNING: suspicious RCU usage",
    "WARNING: CPU: 0 PID: 7 at fs/super.c:10 generic_shutdown_super+0x1/0x2",
    "WARNING: fs/super.c:10 at generic_shutdown_super+0x1/0x2, CPU#1: umount/7",
    "------------[ cut here ]------------",
    "kernel BUG at fs/inode.c:10!",
    "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000001: 0000 [#1] SMP KASAN",
    "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]",
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    "INFO: task mount:99 blocked for more than 120 seconds.",
    "INFO: trying to register non-static key.",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [mount:99]",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "unreferenced object 0xffff888004d3c000 (size 192):",
    "rust_kernel: panicked at fs/dir.rs:10:5:",
    "refcount_t: underflow; use-after-free.",
    "list_del corruption. prev->next should be ffff888, but was ffff889",
    "ODEBUG: free active (active state 0) object: 0 object type: rcu_head",
    "VFS: Busy inodes after unmount of tmpfs (ferofs)",
    "unregister_netdevice: waiting for lo to become free. Usage count = 1",
]

# What a sound kernel says, even when images and disks are not.
SILENCE = [
    "ferofs: image.erofs: superblock at 1024: expected the magic e0f5e1e2, found 0",
    "ferofs: loading out-of-tree module taints kernel.",
    "erofs: (device 0:40): mounted with root inode @ nid 36.",
    "EXT4-fs (vdc): mounted filesystem 1234 r/w with ordered data mode.",
    "I/O error, dev dm-0, sector 16 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "tsc: Unable to calibrate against PIT",
    "kmemleak: Kernel memory leak detector initialized",
    "ferofs: a name in it: BUG: KASAN: slab-use-after-free",
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)",
    "Memory cgroup out of memory: Killed process 400 (cat)",
]


class Reports(unittest.TestCase):
    def test_every_kind_of_report_is_found(self):
        for prefix in ("[    5.123456] ", "[12345.123456][    T1] ", "[    5.123456][ C0] "):
            for text in REPORTS:
                log = f"[    5.000000] before\r\n{prefix}{text}\r\n[    5.200000] after\r\n".encode()
                found = vm.reports(log)
                self.assertEqual(len(found), 1, text)
                self.assertIn(text.encode(), found[0])
                self.assertIn(b"after", found[0])

    def test_nothing_else_is_a_report(self):
        for text in SILENCE:
            self.assertEqual(vm.reports(f"[    5.123456] {text}\r\n".encode()), [], text)
            self.assertEqual(vm.reports(text.encode()), [], text)

    def test_what_follows_a_report_belongs_to_it(self):
        line = b"[    5.123456] WARNING: suspicious RCU usage\n"
        self.assertEqual(len(vm.reports(line * vm.REPORT_LINES)), 1)
        self.assertEqual(len(vm.reports(line * (vm.REPORT_LINES + 1))), 2)


class Output(unittest.TestCase):
    END = b"\0secret 7\n"

    def test_output_and_status_arrive_however_they_are_cut(self):
        sent = b"some\0output\0secre\0" + self.END + b"never shown"
        for size in range(1, len(sent) + 1):
            stream = vm.Stream("secret")
            seen = b""
            for at in range(0, len(sent), size):
                if stream.status is None:
                    seen += stream.feed(sent[at:at + size])
            self.assertEqual(seen, b"some\0output\0secre\0", size)
            self.assertEqual(stream.status, 7, size)

    def test_an_end_without_the_word_is_output(self):
        stream = vm.Stream("secret")
        self.assertEqual(stream.feed(b"\0other 0\n"), b"\0other 0\n")
        self.assertIsNone(stream.status)


if __name__ == "__main__":
    unittest.main()
