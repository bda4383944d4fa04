# SPDX-License-Identifier: MIT
#
# Other readers of the program's sources than the compilers' warnings and clang-tidy (which has
# clang's analyzer): gcc's analyzer, cppcheck, and another libc's headers. Included by the
# Makefile.

CPPCHECK ?= cppcheck
MUSL_GCC ?= musl-gcc

PROGRAM_SOURCES := src/main.c $(SOURCES)

# What is said of these is wrong here each time; memory is what ASan and valgrind watch:
#   malloc-leak, memleak: neither knows that what is put into a list or behind a pointer has
#     an owner, nor cppcheck cleanup attributes
#   use-after-free: that what TAILQ_REMOVE took out is not TAILQ_FIRST any more (gcc 14)
#   fd-leak: of /dev/null in the place of a standard descriptor that was closed (gcc 14)
#   uninitvar: the text in a struct, which a function has filled, when the struct is returned
#   normalCheckLevelMaxBranches: no finding, but that there would be more to look at
GCC_ANALYZER   := -fanalyzer $(addprefix -Wno-analyzer-,malloc-leak use-after-free fd-leak)
CPPCHECK_FLAGS := --enable=warning,performance,portability \
	$(addprefix --suppress=,memleak uninitvar normalCheckLevelMaxBranches '*:/usr/include/*')

# The macros that loops are made of: of sys/queue.h, and jansson's.
CPPCHECK_MACROS = $(addprefix --include=,$(filter %/sys/queue.h %/jansson.h,$(shell \
	$(CC) $(ALL_CPPFLAGS) -M -include jansson.h -include sys/queue.h -x c /dev/null)))

.PHONY: analyze cppcheck musl
analyze: $(PROGRAM_SOURCES:%=$(BUILD)/analyze/%) cppcheck
	$(call ok,$@)
$(BUILD)/analyze/%: % $(HEADERS) contrib/analyze.mk
	$(call say,ANALYZE,$<)
	$(Q)mkdir -p $(@D) && gcc $(ALL_CPPFLAGS) -std=gnu11 -O1 $(WARNINGS) $(GCC_ANALYZER) -c -o $@ $<
cppcheck:
	$(call say,CPPCHECK,src)
	$(Q)$(CPPCHECK) --quiet --error-exitcode=1 --std=c11 -Iinclude -D_GNU_SOURCE \
		-DDRAGOMAN_VERSION='"$(VERSION)"' $(CPPCHECK_FLAGS) $(CPPCHECK_MACROS) $(PROGRAM_SOURCES)

# Against musl's headers, where whatever only glibc has is missed. The libraries are built for
# glibc, so nothing is linked; of theirs and the kernel's headers none says which libc it wants.
# sys/queue.h is no part of musl: distributions have it beside it (Alpine: bsd-compat-headers).
MUSL_BORROWED := linux asm asm-generic sys/queue.h curl libmnl libnftnl microhttpd.h jansson.h \
	jansson_config.h cap-ng.h seccomp.h seccomp-syscalls.h
MUSL_HEADERS  := $(BUILD)/musl/include
musl: $(PROGRAM_SOURCES:%.c=$(BUILD)/musl/%.o)
	$(call ok,$@)
$(BUILD)/musl/headers: contrib/analyze.mk
	$(Q)rm -rf $(MUSL_HEADERS) && mkdir -p $(MUSL_HEADERS)/sys
	$(Q)set -e; for name in $(MUSL_BORROWED); do \
		for at in /usr/include/$$(gcc -print-multiarch) /usr/include; do \
			[ ! -e $$at/$$name ] || ln -sfn $$at/$$name $(MUSL_HEADERS)/$$name; \
		done; \
	done
	$(Q)touch $@
$(BUILD)/musl/%.o: %.c $(HEADERS) $(BUILD)/musl/headers
	$(call say,MUSL,$<)
	$(Q)mkdir -p $(@D) && $(MUSL_GCC) -Iinclude -D_GNU_SOURCE -DDRAGOMAN_VERSION='"$(VERSION)"' \
		-isystem $(MUSL_HEADERS) -std=gnu11 $(WARNINGS) -O2 -c -o $@ $<
