# SPDX-License-Identifier: MIT
#
# What is installed, and where. Included by the Makefile.
#
# FILES has a word FROM=TO for each; uninstall, and the check that both do what they say,
# go by the same words. Nothing goes to /etc, where it might meet what somebody has written:
# dragoman.default is an example of /etc/default/dragoman.

DOCUMENTS := README.md SECURITY.md NEWS LICENSE contrib/systemd/dragoman.default
PLACED    := $(SERVICES:contrib/systemd/%=$(BUILD)/install/%)
complete   = $(patsubst %,%=$(2),$(wildcard contrib/completion/$(1)))

FILES = $(PROGRAM)=$(SBINDIR)/dragoman \
	$(foreach page,$(MANUALS),$(page)=$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
	$(foreach unit,$(PLACED),$(unit)=$(UNITDIR)/$(notdir $(unit))) \
	contrib/systemd/dragoman.sysusers=$(SYSUSERSDIR)/dragoman.conf \
	$(call complete,dragoman.bash,$(BASHDIR)/dragoman) \
	$(call complete,_dragoman,$(ZSHDIR)/_dragoman) \
	$(call complete,dragoman.fish,$(FISHDIR)/dragoman.fish) \
	$(foreach text,$(DOCUMENTS),$(text)=$(DOCDIR)/$(notdir $(text)))

.PHONY: install uninstall list-installed
install: $(PROGRAM) $(PLACED)
	$(Q)set -e; for file in $(FILES); do \
		from=$${file%%=*} to=$(DESTDIR)$${file#*=} mode=644; \
		[ "$$from" != $(PROGRAM) ] || mode=755; \
		echo "  INSTALL  $$to"; \
		install -D -m $$mode "$$from" "$$to"; \
	done

# Folders that are ours alone go as well.
uninstall:
	$(Q)for file in $(FILES); do rm -f "$(DESTDIR)$${file#*=}"; done
	$(Q)[ ! -d '$(DESTDIR)$(DOCDIR)' ] || rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(DOCDIR)'

list-installed:
	@printf '%s\n' $(foreach file,$(FILES),$(lastword $(subst =, ,$(file))))

# The units name the program by where it is installed.
$(PLACED): $(BUILD)/install/%: contrib/systemd/% FORCE
	$(Q)mkdir -p $(@D) && sed 's|/usr/local/sbin/|$(SBINDIR)/|' $< >$@
