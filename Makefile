# A thin front for meson and ninja: every target is one or two commands that can be typed by hand.
#
#   make            optimised programs and library, in build/
#   make run        installs what is missing, builds, starts kvs-server on ./data
#   make test       installs what is missing, builds and runs every test
#   make asan tsan  the same tests under AddressSanitizer + UBSan, and under ThreadSanitizer
#   make fuzz       each fuzz target for FUZZ_SECONDS under libFuzzer
#   make bench      measures against redis-server; bench/README.md has the figures
#   make bench-engine   the log engine beside RocksDB, LMDB and LevelDB
#   make bench-tikv our TiKV client beside the Rust and Go ones, on one kvs-server
#   make bench-events  event streams, beside node-eventstore-client
#   make interop    the published clients of TiKV and EventStoreDB against kvs-server
#   make interop-tikv-server   our TiKV client against a TiKV of others, in Go
#   make lint fmt   looks at style; puts it right where a tool can
#   make install    PREFIX=/usr/local DESTDIR=
#   make uninstall  what was installed with the same PREFIX and DESTDIR
#
#   make run ARGS="--addr 127.0.0.1:4001"   make test SUITE=unit   make test TEST=log
PREFIX ?= /usr/local
DESTDIR ?=
ARGS ?=
SUITE ?=
TEST ?=
BUILDS ?= test
FUZZ_SECONDS ?= 30
RELEASE := --buildtype=release -Db_ndebug=false

.PHONY: all help run test asan tsan fuzz bench bench-engine bench-tikv bench-events interop \
	interop-tikv-server lint fmt install uninstall clean setup

all: build/build.ninja
	@ninja -C build

build/build.ninja:
	@command -v meson ninja >/dev/null || { echo 'make: meson and ninja are needed: make setup' >&2; exit 1; }
	@meson setup build $(RELEASE) -Dtests=false "--prefix=$(PREFIX)"

setup:
	@tools/setup build

help:
	@sed -n '/^#   /,/^PREFIX/s/^# *//p' Makefile

run: setup
	@$(MAKE) --no-print-directory all
	@tools/run $(ARGS)

test:
	@tools/setup build test
	@tools/run-tests --builds "$(BUILDS)" --suites "$(SUITE)" --tests "$(TEST)"

asan tsan:
	@tools/setup build test
	@tools/run-tests --builds $@ --suites "$(SUITE)" --tests "$(TEST)"

fuzz:
	@tools/setup build test fuzz
	@tools/run-fuzz $(FUZZ_SECONDS)

bench:
	@tools/setup build bench
	@$(MAKE) --no-print-directory all
	@bench/run $(ARGS)

bench-engine:
	@tools/setup build bench
	@$(MAKE) --no-print-directory all
	@bench/run-engine $(ARGS)

bench-tikv: setup
	@$(MAKE) --no-print-directory all
	@bench/run-tikv $(ARGS)

bench-events: setup
	@$(MAKE) --no-print-directory all
	@bench/run-events $(ARGS)

interop interop-tikv-server: setup
	@$(MAKE) --no-print-directory all
	@tests/interop/run $(if $(filter interop-%,$@),tikv_server) $(ARGS)

lint:
	@tools/setup build test lint
	@tools/lint

fmt:
	@tools/setup lint
	@tools/c-files | xargs clang-format-14 -i

install: all
	@meson configure build "-Dprefix=$(PREFIX)"
	@DESTDIR="$(DESTDIR)" meson install -C build
	@[ -n "$(DESTDIR)" ] || PATH=$$PATH:/usr/sbin:/sbin ldconfig 2>/dev/null || true # as root: libkvs.so is found
	@[ "$$(id -u)" -ne 0 ] || chown -hR --reference=Makefile build # what sudo wrote: make goes on without it

uninstall: build/build.ninja
	@tools/uninstall build "$(PREFIX)" "$(DESTDIR)"

clean:
	@rm -rf build build-*
