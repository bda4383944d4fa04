# dragoman: localhost, led to the right door. See README.md; `make help` lists the targets.

PREFIX     ?= /usr/local
DESTDIR    ?=
SBINDIR    ?= $(PREFIX)/sbin
MANDIR     ?= $(PREFIX)/share/man
BUILD      ?= build
CC         ?= gcc
PKG_CONFIG ?= pkg-config
VERSION    := 0.1.0

PACKAGES := libnftnl libmnl libcurl jansson
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS   ?= -O2 -g
HARDENING ?= -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE

# Recursive on purpose: `make clean` and `make help` must not ask pkg-config.
ALL_CPPFLAGS = -Iinclude -D_GNU_SOURCE -DDRAGOMAN_VERSION='"$(VERSION)"' \
               $(shell $(PKG_CONFIG) --cflags $(PACKAGES)) $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu11 $(WARNINGS) $(HARDENING) $(CFLAGS) $(SANITIZE)
ALL_LDFLAGS  = -pie -Wl,-z,relro,-z,now $(LDFLAGS) $(SANITIZE)
LIBS         = $(shell $(PKG_CONFIG) --libs $(PACKAGES))

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' $(1) $(2);)

SOURCES := $(filter-out src/main.c,$(sort $(wildcard src/*/*.c)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libdragoman.a
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_SUPPORT := $(filter-out $(TEST_SOURCES),$(sort $(wildcard tests/*.c)))
TESTS   := $(TEST_SOURCES:tests/%.c=$(BUILD)/tests/%)

.PHONY: all
all: $(BUILD)/dragoman

$(BUILD)/dragoman: $(BUILD)/src/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(LIBRARY): $(OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_SUPPORT:%.c=$(BUILD)/%.o) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(shell $(PKG_CONFIG) --libs cmocka)

.SECONDARY:

.PHONY: tests unit
tests: $(TESTS)

# Each test program prints its own results; the first one that fails ends it.
unit: $(TESTS)
	$(Q)for t in $(TESTS); do $$t || exit 1; done

.PHONY: clean
clean:
	$(Q)rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
