# SPDX-License-Identifier: MIT
# dragoman: localhost, led to the right door. `make help` lists the targets.

PREFIX      ?= /usr/local
DESTDIR     ?=
SBINDIR     ?= $(PREFIX)/sbin
MANDIR      ?= $(PREFIX)/share/man
DOCDIR      ?= $(PREFIX)/share/doc/dragoman
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
BASHDIR     ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR      ?= $(PREFIX)/share/zsh/site-functions
FISHDIR     ?= $(PREFIX)/share/fish/vendor_completions.d
BUILD       ?= build
PKG_CONFIG  ?= pkg-config
VERSION     := 0.1.0

# make has a CC of its own (cc), which `?=` would keep.
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG         ?= clang
CLANG_TIDY    ?= clang-tidy
LLVM_COV      ?= llvm-cov
LLVM_PROFDATA ?= llvm-profdata
CLANG_FORMAT  ?= clang-format
# Debian's own Python: the one that the package python3-pytest belongs to.
PYTHON       ?= /usr/bin/python3
PYTEST_FLAGS ?=

PACKAGES  := libnftnl libmnl libcurl libmicrohttpd jansson libcap-ng libseccomp
WERROR    ?= -Werror
WARNINGS  := -Wall -Wextra -Wshadow -Wconversion -Wdate-time $(WERROR)
CFLAGS    ?= -O2 -g
# _FORTIFY_SOURCE does nothing, loudly, where nothing is optimised.
FORTIFY    = $(if $(filter -O1 -O2 -O3 -Os -Og,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDENING ?= $(FORTIFY) -fstack-protector-strong -fPIE
LINK_HARDENING ?= $(if $(HARDENING),-pie -Wl$(comma)-z$(comma)relro -Wl$(comma)-z$(comma)now)
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
comma     := ,

# pkg-config is asked once, and not at all for targets that need no compiler.
PACKAGE_CFLAGS = $(eval PACKAGE_CFLAGS := $$(shell $(PKG_CONFIG) --cflags $(PACKAGES)))$(PACKAGE_CFLAGS)
PACKAGE_LIBS   = $(eval PACKAGE_LIBS := $$(shell $(PKG_CONFIG) --libs $(PACKAGES)))$(PACKAGE_LIBS)
CMOCKA_LIBS    = $(eval CMOCKA_LIBS := $$(shell $(PKG_CONFIG) --libs cmocka))$(CMOCKA_LIBS)

ALL_CPPFLAGS = -Iinclude -D_GNU_SOURCE -DDRAGOMAN_VERSION='"$(VERSION)"' $(PACKAGE_CFLAGS) $(CPPFLAGS)
# No path of this machine is in what is built.
ALL_CFLAGS   = -std=gnu11 $(WARNINGS) $(HARDENING) '-ffile-prefix-map=$(CURDIR)=.' $(CFLAGS) $(SANITIZE)
ALL_LDFLAGS  = $(LINK_HARDENING) $(LDFLAGS) $(SANITIZE)

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)')
# One line for each check that holds; contrib/check counts them.
ok = @printf '  ok       %s\n' '$(1)'

SOURCES      := $(filter-out src/main.c,$(sort $(wildcard src/*/*.c)))
HEADERS      := $(sort $(wildcard include/dragoman/*/*.h src/*/*.h tests/*.h tests/*/*.h bench/*/*.h))
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_SUPPORT := $(filter-out $(TEST_SOURCES),$(sort $(wildcard tests/*.c)))
FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
PROBE_SOURCES := $(sort $(wildcard integration/*.c))
BENCH_SOURCES := $(sort $(wildcard bench/*.c))
BENCH_SUPPORT := $(sort $(wildcard bench/support/*.c))
REPLAY       := tests/fuzz/replay.c
INTERFACE_SOURCE := contrib/manual/interface.c
C_SOURCES    := $(wildcard src/main.c) $(SOURCES) $(TEST_SOURCES) $(TEST_SUPPORT) $(FUZZ_SOURCES) $(REPLAY) $(PROBE_SOURCES) \
	$(BENCH_SOURCES) $(BENCH_SUPPORT) $(INTERFACE_SOURCE)
SCRIPTS      := $(sort $(wildcard $(addprefix contrib/,check check-install check-reproducible completion/dragoman.bash \
	demo ensure-packages examples/netns examples/nspawn run-integration run-tests try-package) .ci/run))
MANUALS      := $(sort $(wildcard contrib/man/*.[1-9]))
COMPLETIONS  := $(sort $(wildcard contrib/completion/*))
SERVICES     := contrib/systemd/dragoman.service

PROGRAM := $(BUILD)/dragoman
LIBRARY := $(BUILD)/libdragoman.a
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
SUPPORT := $(BUILD)/tests/libsupport.a
TESTS   := $(TEST_SOURCES:%.c=$(BUILD)/%)
PROBES  := $(PROBE_SOURCES:%.c=$(BUILD)/%)
BENCHES := $(BENCH_SOURCES:%.c=$(BUILD)/%)
FUZZERS := $(FUZZ_SOURCES:%.c=$(BUILD)/%)
INTERFACE := $(INTERFACE_SOURCE:%.c=$(BUILD)/%)
REPLAYS := $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=$(BUILD)/tests/fuzz/replay_%)

.PHONY: all
all: $(PROGRAM)

.PHONY: help
help:
	@printf '%s\n' \
	'make             build/dragoman' \
	'make check       as root (the kernel module has unit tests): both compilers, unit tests,' \
	'                 sanitizers, clang-tidy, format, headers, layers, manual, scripts,' \
	'                 services (units of systemd), security (tests that SECURITY.md names),' \
	'                 documents (files, functions and targets that they name),' \
	'                 metrics (that alerts, dashboard and manual know of),' \
	'                 installation (what install and uninstall do),' \
	'                 musl (that it compiles with that libc'\''s headers)' \
	'make unit        unit tests; make sanitize: the same under ASan and UBSan' \
	'make integration real kernel, real etcd: as root (contrib/check does both);' \
	'                 make integration-sanitize: the same under ASan and UBSan' \
	'make fuzz        each fuzzer for SECONDS=60, with clang' \
	'make valgrind    unit tests under valgrind' \
	'make soak        SECONDS=N: everything at once, at random, for so long (as root)' \
	'make bench       speed beside the peers, as root: ONLY=section[,section] QUICK=1;' \
	'                 tables, JSON and plots in $$(BENCH_RESULTS);' \
	'                 make bench-compare A=one.json B=other.json; make bench-page A=one.json' \
	'make analyze     gcc -fanalyzer and cppcheck' \
	'make cover       which lines unit and integration tests run (as root; needs llvm)' \
	'make tidy format format-check headers layers manual scripts services security documents' \
	'     metrics installation: one of them' \
	'make completion  contrib/completion anew, when options have changed' \
	'make alerts      alert rules of contrib/prometheus, with promtool; as root: installs it' \
	'make install     to $$(DESTDIR)$$(PREFIX), or SBINDIR MANDIR DOCDIR UNITDIR SYSUSERSDIR' \
	'                 BASHDIR ZSHDIR FISHDIR one by one; make uninstall takes it away again;' \
	'                 make list-installed shows the files' \
	'make deb         Debian'\''s package, in $$(BUILD)/deb (needs debhelper): DEB_VERSION;' \
	'                 make reproducible: that and the program twice, the same bytes' \
	'make clean       remove $$(BUILD)' \
	'Variables: CC CFLAGS LDFLAGS CPPFLAGS BUILD PREFIX DESTDIR SANITIZE WERROR= V=1'

# --- Building ---------------------------------------------------------------

# Whatever was built with other flags is built again.
COMMAND = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@$(PKG_CONFIG) --print-errors --exists $(PACKAGES)
	@printf '%s\n' '$(subst ','\'',$(COMMAND))' >$@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv -f $@.$$$$ $@; fi
.PHONY: FORCE
FORCE:

$(PROGRAM): $(BUILD)/src/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS)

# Made anew each time, or members of deleted sources would stay.
$(LIBRARY): $(OBJECTS) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcsD $@ $(OBJECTS)

$(BUILD)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' >$@

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# An archive, since a test that has a module's functions of its own takes no more than it uses.
$(SUPPORT): $(TEST_SUPPORT:%.c=$(BUILD)/%.o)
	$(Q)rm -f $@ && $(AR) rcsD $@ $^

$(TESTS): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(SUPPORT) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) $(CMOCKA_LIBS)

$(PROBES): $(BUILD)/integration/%: $(BUILD)/integration/%.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) -pthread

# The program's own main(), with a program_main() that prints its tables: see there.
$(INTERFACE): $(INTERFACE).o $(BUILD)/src/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS)

# The raw program has nothing but libmnl; the empty one has all of our libraries, and no use for them.
BENCH_LIBRARY := $(BUILD)/bench/libsupport.a
$(BENCH_LIBRARY): $(BENCH_SUPPORT:%.c=$(BUILD)/%.o)
	$(Q)rm -f $@ && $(AR) rcsD $@ $^
$(BENCHES): $(BUILD)/bench/%: $(BUILD)/bench/%.o $(BENCH_LIBRARY) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) -pthread
$(BUILD)/bench/raw: PACKAGE_LIBS = -lmnl
$(BUILD)/bench/empty: ALL_LDFLAGS += -Wl,--no-as-needed

.SECONDARY:
-include $(patsubst %.c,$(BUILD)/%.d,$(C_SOURCES))

# --- Checking ---------------------------------------------------------------

CHECKS := gcc clang unit sanitize corpora tidy format-check headers layers manual scripts services security documents metrics installation musl

# Each check writes "ok NAME"; contrib/check takes the list from here.
.PHONY: check list-checks
check: $(CHECKS)
list-checks:
	@printf '%s\n' $(CHECKS)

.PHONY: gcc clang
# In the parent where it builds with gcc anyway: two makes must not share a directory.
ifneq ($(findstring gcc,$(CC)),)
gcc: all tests probes benches
	$(call ok,$@)
else
gcc:
	$(Q)$(MAKE) --no-print-directory CC=gcc BUILD=$(BUILD)/gcc all tests probes benches
	$(call ok,$@)
endif
clang:
	$(Q)$(MAKE) --no-print-directory CC=$(CLANG) BUILD=$(BUILD)/clang all tests probes benches
	$(call ok,$@)

.PHONY: tests probes benches unit sanitize valgrind
tests: $(TESTS)
probes: $(PROBES)
benches: $(BENCHES)

unit: $(TESTS)
	$(Q)contrib/run-tests $(TESTS)
	$(call ok,$@)

# Leaks, overruns and undefined behaviour end a test with a report.
sanitize:
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize HARDENING= CFLAGS='-O1 -g' SANITIZE='$(SANITIZERS)' tests
	$(Q)ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
		contrib/run-tests $(TESTS:$(BUILD)/%=$(BUILD)/sanitize/%)
	$(call ok,$@)

# What the fuzzers found in the past, under the same sanitizers. Behind them: one directory, one make.
.PHONY: corpora replays
replays: $(REPLAYS)
$(REPLAYS): $(BUILD)/tests/fuzz/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/$(REPLAY:.c=.o) $(SUPPORT) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) $(CMOCKA_LIBS)
corpora: sanitize
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize HARDENING= CFLAGS='-O1 -g' SANITIZE='$(SANITIZERS)' replays
	$(Q)set -e; for f in $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=%); do \
		$(BUILD)/sanitize/tests/fuzz/replay_$$f tests/fuzz/corpus/$$f; \
	done
	$(call ok,$@)

valgrind: $(TESTS)
	$(Q)RUNNER='valgrind -q --leak-check=full --error-exitcode=99' contrib/run-tests $(TESTS)

TIDIED := $(C_SOURCES:%=$(BUILD)/tidy/%)
.PHONY: tidy
tidy: $(TIDIED)
	$(call ok,$@)
# Incremental: a source is looked at again when it, a header or the checks changed.
$(BUILD)/tidy/%: % .clang-tidy tests/.clang-tidy $(HEADERS)
	$(call say,TIDY,$<)
	$(Q)mkdir -p $(@D) && $(CLANG_TIDY) --quiet $< -- $(ALL_CPPFLAGS) -std=gnu11 $(WARNINGS) 2>$@.log \
		|| { cat $@.log >&2; exit 1; }
	$(Q)touch $@

.PHONY: format format-check
format:
	$(Q)$(CLANG_FORMAT) -i $(C_SOURCES) $(HEADERS)
format-check:
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_SOURCES) $(HEADERS)
	$(call ok,$@)

# Every header compiles alone: what it needs, it includes.
.PHONY: headers
headers: $(HEADERS:%=$(BUILD)/headers/%)
	$(call ok,$@)
$(BUILD)/headers/%: % $(HEADERS)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CPPFLAGS) -std=gnu11 $(WARNINGS) \
		-fsyntax-only -include $< -x c /dev/null
	$(Q)touch $@

.PHONY: layers manual scripts services security documents metrics alerts installation
layers:
	$(Q)contrib/check-layers --self-test
	$(Q)contrib/check-layers .
	$(call ok,$@)

# Manual, help, completions and the parser say one thing.
manual: $(PROGRAM) $(INTERFACE)
	$(Q)mandoc -T lint -W warning $(MANUALS)
	$(Q)contrib/check-manual $(PROGRAM) $(INTERFACE)
	$(Q)contrib/check-manual --self-test $(PROGRAM) $(INTERFACE)
	$(call ok,$@)

# The parts of the completions that are made from the table of options.
.PHONY: completion
completion: $(PROGRAM) $(INTERFACE)
	$(Q)contrib/check-manual --write $(PROGRAM) $(INTERFACE)

scripts:
	$(Q)shellcheck $(SCRIPTS)
	$(call ok,$@)

security:
	$(Q)contrib/check-security --self-test
	$(Q)contrib/check-security .
	$(call ok,$@)

documents:
	$(Q)contrib/check-documents --self-test
	$(Q)contrib/check-documents .
	$(call ok,$@)

metrics:
	$(Q)contrib/check-metrics --self-test
	$(Q)contrib/check-metrics .
	$(call ok,$@)

# Not one of the checks: Prometheus is a large package for one small program.
alerts: metrics
	$(Q)contrib/ensure-packages prometheus
	$(Q)cd contrib/prometheus && promtool check rules dragoman.rules.yml && \
		promtool test rules dragoman.test.yml

# As installed, but with a program that is there. A line that is not understood
# is named, and does not change the exit status.
services: $(PROGRAM)
	$(Q)rm -rf $(BUILD)/services && mkdir -p $(BUILD)/services
	$(Q)set -e; for f in $(SERVICES); do \
		sed 's|/usr/local/sbin/|$(abspath $(BUILD))/|' $$f >$(BUILD)/services/$${f##*/}; \
		said=$$(systemd-analyze verify --man=no $(BUILD)/services/$${f##*/} 2>&1) || \
			said="$$said (exit status $$?)"; \
		[ -z "$$said" ] || { echo "$$said" >&2; exit 1; }; \
	done
	$(Q)set -e; d=$(abspath $(BUILD))/services; printf '[Service]\nExecStart=/bin/true\n' >$$d/other.service; \
	for f in dragoman:agent-without-docker other:service-in-netns; do \
		mkdir -p $$d/$${f%:*}.service.d; \
		sed 's|/usr/local/sbin/|$(abspath $(BUILD))/|' contrib/examples/$${f#*:}.conf \
			>$$d/$${f%:*}.service.d/example.conf; \
		said=$$(SYSTEMD_UNIT_PATH=$$d: systemd-analyze verify --man=no $$d/$${f%:*}.service 2>&1) || \
			said="$$said (exit status $$?)"; \
		[ -z "$$said" ] || { echo "$$said" >&2; exit 1; }; \
	done
	$(call ok,$@)

# Behind all that is compiled: two makes must not share a directory.
installation: all tests probes benches
	+$(Q)contrib/check-install
	$(call ok,$@)

# With the sanitizers' flags: for tests of leaks, and, by integration-sanitize, for all of them.
.PHONY: sanitized
sanitized:
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/sanitize HARDENING= CFLAGS='-O1 -g' SANITIZE='$(SANITIZERS)' all

DRAGOMAN ?= $(PROGRAM)
.PHONY: integration
integration: all probes benches sanitized
	$(Q)DRAGOMAN='$(abspath $(DRAGOMAN))' DRAGOMAN_PROBES='$(abspath $(BUILD)/integration)' \
		DRAGOMAN_BENCHES='$(abspath $(BUILD)/bench)' \
		DRAGOMAN_SANITIZED='$(abspath $(BUILD)/sanitize/dragoman)' \
		PYTHON='$(PYTHON)' contrib/run-integration $(if $(RESULTS),-r '$(RESULTS)') $(PYTEST_FLAGS)

# Freed memory that ASan keeps would count where memory is measured.
.PHONY: integration-sanitize
integration-sanitize:
	$(Q)ASAN_OPTIONS=detect_stack_use_after_return=1:quarantine_size_mb=16 \
		$(MAKE) --no-print-directory DRAGOMAN='$(BUILD)/sanitize/dragoman' integration

# --- More, for those who look closer ----------------------------------------

SECONDS ?= 60
# Containers, services, faults and kills at random; the seed is printed.
.PHONY: soak
soak:
	$(Q)DRAGOMAN_SOAK=$(SECONDS) $(MAKE) --no-print-directory integration PYTEST_FLAGS='-s -k soak'

.PHONY: fuzz fuzzers
# Everything is compiled once for all of them, in a directory of its own.
fuzzers:
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=$(CLANG) HARDENING= CFLAGS='-O1 -g' \
		SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all' fuzz-programs
.PHONY: fuzz-programs
fuzz-programs: $(FUZZERS)
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT) $(LIBRARY)
	$(call say,FUZZER,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o %.a,$^) $(PACKAGE_LIBS) \
		$(CMOCKA_LIBS)
# What was found stays in $(BUILD)/corpus; seeds are in tests/fuzz/corpus/NAME, words in NAME.dict.
fuzz: fuzzers
	$(Q)set -e; for f in $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=%); do \
		echo "  FUZZ     $$f, $(SECONDS) s"; mkdir -p $(BUILD)/corpus/$$f; \
		words=tests/fuzz/$$f.dict; \
		$(BUILD)/fuzz/tests/fuzz/fuzz_$$f -max_total_time=$(SECONDS) -print_final_stats=1 \
			$$([ ! -e $$words ] || echo -dict=$$words) \
			-artifact_prefix=$(BUILD)/corpus/$$f- $(BUILD)/corpus/$$f tests/fuzz/corpus/$$f; \
	done

include contrib/analyze.mk

# Which lines of src the unit and the integration tests run together. Counters in mapped files
# (%c): they stay after kill -9, and writing them is no system call that the filter would see.
# An agent that is not root adds to them as well. What failed tests ran counts all the same.
# valgrind 3.19 does not read clang's DWARF 5.
COVER       := $(BUILD)/cover
COVER_FLAGS := -O0 -gdwarf-4 -fprofile-instr-generate -fcoverage-mapping \
	-mllvm -runtime-counter-relocation -Wno-unused-command-line-argument
.PHONY: cover
cover:
	$(Q)$(MAKE) --no-print-directory BUILD=$(COVER) CC=$(CLANG) HARDENING= CFLAGS='$(COVER_FLAGS)' all tests
	$(Q)rm -rf $(COVER)/profile && mkdir -p -m 1777 $(COVER)/profile
	$(Q)export LLVM_PROFILE_FILE='$(abspath $(COVER))/profile/%c%m.profraw'; umask 0; \
		contrib/run-tests $(TESTS:$(BUILD)/%=$(COVER)/%); \
		$(MAKE) --no-print-directory DRAGOMAN=$(COVER)/dragoman integration || \
			echo 'cover: some tests failed' >&2
	$(Q)$(LLVM_PROFDATA) merge -o $(COVER)/profile/all $(COVER)/profile/*.profraw
	$(Q)$(LLVM_COV) show --show-branches=count -instr-profile=$(COVER)/profile/all $(COVER)/dragoman src \
		$(TESTS:$(BUILD)/%=-object $(COVER)/%) >$(COVER)/lines
	$(Q)$(LLVM_COV) report -instr-profile=$(COVER)/profile/all $(COVER)/dragoman src \
		$(TESTS:$(BUILD)/%=-object $(COVER)/%) --show-region-summary=false --show-branch-summary=false
	@echo '  COVER    each line with its count: $(COVER)/lines'

# Speed, beside the peers: see bench/README.md. Nothing here asserts anything.
BENCH_RESULTS  ?= bench-results
BENCH_PACKAGES := nftables iptables iproute2 nftlb haproxy nginx-light libnginx-mod-stream wrk \
	gnuplot-nox etcd-server docker.io busybox-static python3 strace
.PHONY: bench bench-compare bench-page
bench: all benches
	$(Q)contrib/ensure-packages $(BENCH_PACKAGES)
	$(Q)DRAGOMAN='$(abspath $(DRAGOMAN))' DRAGOMAN_BENCHES='$(abspath $(BUILD)/bench)' \
		$(PYTHON) -B bench/run.py $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') \
		$(if $(LIMIT),--limit '$(LIMIT)') --results '$(BENCH_RESULTS)'
bench-compare:
	$(Q)$(PYTHON) -B bench/compare.py '$(A)' '$(B)'
bench-page:
	$(Q)$(PYTHON) -B bench/page.py '$(A)'

# --- Installing -------------------------------------------------------------

include contrib/install.mk contrib/package.mk

.PHONY: clean
clean:
	$(Q)rm -rf $(BUILD)
