# A thin front for meson and ninja.
BUILD ?= build

.PHONY: all test setup
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --buildtype=release -Db_ndebug=false

test: all
	meson test -C $(BUILD) --print-errorlogs
