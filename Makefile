# The face: each target hands over to meson, ninja or a script in tools/.

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
BUILD = build
export JOBS

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS)

$(BUILD)/build.ninja:
	@tools/setup core xdp dpdk rdma
	meson setup $(BUILD) $(if $(CI),-Dwerror=true)

setup:
	@tools/setup core xdp dpdk rdma

run: setup all
	@$(BUILD)/demi run

test: setup
	@tools/setup lab || echo "the lab is left out"
	@tools/test $(TESTS)

soak: setup
	@tools/setup lab || echo "the lab is left out"
	@tools/test soak

lab: setup all
	@tools/lab

bench: setup all
	@tools/bench

lint: setup all
	@tools/lint

fmt: setup
	@tools/lint --fmt

install: all
	@meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX))
	@ninja -C $(BUILD) -j $(JOBS)
	meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))
	$(if $(DESTDIR),,-ldconfig)

clean:
	rm -rf build build-asan build-tsan build-clang

.PHONY: all setup run test soak lab bench lint fmt install clean
.NOTPARALLEL:
