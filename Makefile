# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What a person types. The kernel's build does not read this file: called with M= it reads Kbuild.
#
# Two kinds of kernel to build for: one on this machine (KDIR, with this machine's compilers), or one of
# those that the project makes for itself in its cache (KERNEL, with the compilers of the build root). Without
# either it is the running kernel if that can have Rust modules, else Debian's 7.3 from the cache.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

export FEROFS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ferofs
PREFIX ?= /usr/local
# Where mount(8), fsck(8) and mkfs(8) look for programs like mount.ferofs: nowhere else, whatever PREFIX is.
SBINDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/sbin,$(PREFIX)/sbin)
# Where systemd looks for units of packages; those of an administrator are in /etc/systemd/system.
UNITDIR ?= $(PREFIX)/lib/systemd/system
completions := bash-completion/completions zsh/site-functions fish/vendor_completions.d
version := $(shell tools/packaging/version)
RUSTC ?= rustc

running := /lib/modules/$(shell uname -r)/build
ifeq ($(origin KERNEL)$(origin KDIR),undefinedundefined)
  # The compiler must be the very one that made the kernel's crates.
  ifneq ($(wildcard $(running)/rust/libkernel.rmeta),)
    ifneq ($(shell grep -xF 'CONFIG_RUSTC_VERSION_TEXT="$(shell $(RUSTC) --version 2>/dev/null)"' $(running)/.config),)
      KDIR := $(running)
    endif
  endif
endif
KERNEL ?= debian-7.3
KERNELS := debian-7.3 debian-7.2 debug

ifdef KDIR
  built := build/host
else
  built := build/$(KERNEL)
endif

.PHONY: all help module tools modules_install install uninstall dist dkms_install deb deb-source clean clean-cache distclean root kernel-debug \
	fmt clippy test test-host test-kunit test-vm test-packages fuzz fuzz-vm reach miri bench run shell audit coverage load

all: module tools ## Build the module and the tools (the default)

help: ## List the targets
	@echo 'make TARGET [KDIR=BUILD-TREE | KERNEL=debian-7.3|debian-7.2|debug] [FEROFS_CACHE=DIR]'
	@echo
	@sed -n 's/^\([a-z_-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo 'What needs compilers, kernels or virtual machines makes them first, in $(FEROFS_CACHE).'

module: ## Build ferofs.ko for KDIR or KERNEL
ifdef KDIR
	@tests/kernel/check-host '$(KDIR)' '$(RUSTC)'
	@mkdir -p build/host
	@$(MAKE) -C '$(KDIR)' M='$(CURDIR)' MO='$(CURDIR)/build/host' modules
	@echo $(built)/ferofs.ko
else
	@tests/kernel/build module '$(KERNEL)'
endif

tools: ## Build the ferofs command and the test kit, static
	@tests/kernel/build tools

modules_install: ## Install ferofs.ko for its kernel (as root; INSTALL_MOD_PATH=DIR for another root)
	@tests/kernel/install-module $(built)/ferofs.ko

install: ## Install the ferofs command, its other names, man pages, completions (PREFIX=/usr/local, SBINDIR=/sbin, DESTDIR=)
	@[ -e build/bin/ferofs ] || { echo "make: there is no build/bin/ferofs yet; first: make tools" >&2; exit 1; }
	install -D -m 755 build/bin/ferofs '$(DESTDIR)$(PREFIX)/bin/ferofs'
	install -d '$(DESTDIR)$(SBINDIR)' $(foreach dir,$(completions),'$(DESTDIR)$(PREFIX)/share/$(dir)')
	install -D -m 755 build/bin/containerd-ferofs-grpc '$(DESTDIR)$(SBINDIR)/containerd-ferofs-grpc'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man8' '$(DESTDIR)$(UNITDIR)'
	build/bin/containerd-ferofs-grpc man >'$(DESTDIR)$(PREFIX)/share/man/man8/containerd-ferofs-grpc.8'
	for unit in service socket; do \
		sed 's|/usr/sbin/|$(SBINDIR)/|' tools/containerd/systemd/containerd-ferofs-grpc.$$unit \
			>'$(DESTDIR)$(UNITDIR)'/containerd-ferofs-grpc.$$unit || exit; \
	done
	for unit in ferofs-serve@.service ferofs-mountd.socket ferofs-mountd@.service; do \
		sed 's|/usr/bin/|$(PREFIX)/bin/|' tools/ferofs/systemd/$$unit >'$(DESTDIR)$(UNITDIR)'/$$unit || exit; \
	done
	for name in mkfs fsck mount umount; do ln -sf '$(PREFIX)/bin/ferofs' '$(DESTDIR)$(SBINDIR)'/$$name.ferofs || exit; done
	ln -sf ferofs '$(DESTDIR)$(PREFIX)/bin/dump.ferofs'
	build/bin/ferofs man '$(DESTDIR)$(PREFIX)/share/man'
	install -D -m 644 Documentation/man/ferofs.5 '$(DESTDIR)$(PREFIX)/share/man/man5/ferofs.5'
	for name in ferofs dump.ferofs mkfs.ferofs fsck.ferofs; do \
		build/bin/ferofs completions bash --name $$name >'$(DESTDIR)$(PREFIX)/share/bash-completion/completions'/$$name && \
		build/bin/ferofs completions zsh --name $$name >'$(DESTDIR)$(PREFIX)/share/zsh/site-functions'/_$$name && \
		build/bin/ferofs completions fish --name $$name >'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'/$$name.fish || exit; \
	done

uninstall: ## Remove what install installed (with the same PREFIX, SBINDIR, DESTDIR)
	rm -f '$(DESTDIR)$(PREFIX)'/bin/{ferofs,dump.ferofs} '$(DESTDIR)$(SBINDIR)'/{mkfs,fsck,mount,umount}.ferofs
	rm -f '$(DESTDIR)$(SBINDIR)/containerd-ferofs-grpc' '$(DESTDIR)$(PREFIX)/share/man/man8/containerd-ferofs-grpc.8' \
		'$(DESTDIR)$(UNITDIR)'/{containerd-ferofs-grpc.{service,socket},ferofs-serve@.service,ferofs-mountd.socket,ferofs-mountd@.service}
	rm -f '$(DESTDIR)$(PREFIX)'/share/man/man1/{ferofs{,-*},dump.ferofs}.1 '$(DESTDIR)$(PREFIX)/share/man/man5/ferofs.5' \
		'$(DESTDIR)$(PREFIX)'/share/man/man8/{mkfs,fsck,mount,umount}.ferofs.8
	for name in ferofs dump.ferofs mkfs.ferofs fsck.ferofs; do \
		rm -f '$(DESTDIR)$(PREFIX)/share/bash-completion/completions'/$$name \
			'$(DESTDIR)$(PREFIX)/share/zsh/site-functions'/_$$name \
			'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d'/$$name.fish; \
	done

dist: ## Pack the committed sources as build/ferofs-VERSION.tar.xz
	@mkdir -p build
	git archive --format=tar --prefix=ferofs-$(version)/ HEAD | xz >build/ferofs-$(version).tar.xz.new
	mv build/ferofs-$(version).tar.xz.new build/ferofs-$(version).tar.xz

dkms_install: ## Install the module's sources for dkms (DESTDIR=; then: dkms install ferofs/VERSION)
	@find Kbuild dkms.conf LICENSES fs rust -type f -not -path 'rust/erofs/tests/*' -print0 | \
		xargs -0 -I FILE install -D -m 644 FILE '$(DESTDIR)/usr/src/ferofs-$(version)/FILE'
	@install -m 755 tools/packaging/kernel-rust-metadata '$(DESTDIR)/usr/src/ferofs-$(version)/'
	@echo '$(DESTDIR)/usr/src/ferofs-$(version)'

deb: ## Build the Debian packages, into build/deb
	@tools/packaging/make-deb $(filter debian-%,$(KERNELS))

deb-source: ## Build a Debian source package of what is committed, with its crates, into build/deb-source
	@tools/packaging/make-deb-source

fmt: ## Format all Rust code
	@tests/lint --fix rustfmt

clippy: ## Run clippy on the tools and on the module
	@tests/lint clippy-tools clippy-module

test: ## Run all tests: test-host, test-kunit and test-vm
	@tests/run host kunit vm

test-host: ## Run the tests that need no kernel: cargo, clippy, rustfmt, shellcheck
	@tests/run host

test-kunit: ## Run the module's KUnit suites in the debug kernel
	@tests/run kunit

test-vm: ## Run the test scripts in virtual machines (TESTS=tests/DIR/NAME.sh... for some)
	@tests/run vm $(TESTS)

test-packages: ## Install the Debian packages in a fresh Debian, build, boot, upgrade, remove (40 minutes; not in test)
	@tests/packages/run

audit: ## Print what a sceptic looks at: unsafe, panics, symbols, stack frames, licenses; builds twice and compares
	@tests/audit

coverage: ## Print which lines of rust/erofs its tests and mutated images reach
	@tests/coverage

fuzz: ## Fuzz archives, images and containers with cargo-fuzz (SECONDS=600 each)
	@tests/fuzz/cargo $(SECONDS)

fuzz-vm: ## Mount mutated images in the debug kernel as a program (SECONDS=600)
	@tests/fuzz/vm $(SECONDS)

load: ## Do everything at once in the debug kernel, with 2 and 4 processors (SECONDS=600; ON="debug debian-7.3")
	@tests/load/vm $(or $(SECONDS),600) $(ON)

reach: ## Print how much of the module mutated images reach, by kcov
	@tests/fuzz/reach

miri: ## Run tests of the format and of the inflater in Miri (a nightly compiler)
	@tests/miri

bench: ## Measure ferofs against the C driver, ext4 and squashfs (BENCH=--large for a tar over 1 GB)
	@tests/bench/run $(BENCH)

run: ## Mount real layers in a VM and compare every entry with GNU tar (TAR=FILE for your own)
	@tests/demo/run $(TAR)

shell: ## A prompt in a VM with a layer mounted (TAR=FILE for your own)
	@tests/demo/run --shell $(TAR)

root: ## Make the build root
	@tests/kernel/make-root

kernel-debug: ## Make the debug kernel
	@tests/kernel/kernel debug

clean: ## Remove what was built here; the cache stays
	rm -rf build

distclean: clean clean-cache ## clean and clean-cache

clean-cache: ## Remove the build root, the kernels, the layers and what else was made once
	@tests/kernel/clean-cache
