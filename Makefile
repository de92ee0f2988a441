# make demo   build, start, three streaming PostgreSQL servers, what they survive
# make test   everything CI runs
# make bench  the figures, beside their floors
.PHONY: build demo test bench images clean

MAINSTAY := $(or $(CARGO_TARGET_DIR),target)/debug/mainstay

build:
	scripts/setup
	cargo build

images: build
	cargo xtask images

demo: build
	cargo xtask images postgres nginx
	scripts/demo $(MAINSTAY)

test:
	scripts/setup --test
	scripts/test

bench:
	scripts/setup
	cargo build --release
	cargo xtask images
	cargo xtask bench

clean:
	cargo clean
	rm -rf .cache
