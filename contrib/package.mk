# SPDX-License-Identifier: MIT
#
# Debian's package. Included by the Makefile.
#
# The tree is copied to below $(BUILD), where contrib/debian becomes the debian/ that
# dpkg-buildpackage wants at the top. Whoever builds it gets the same bytes: modes are set, since
# a checkout has those of somebody's umask; files are as new as the copy, since those older than
# the changelog's date would keep theirs; paths are taken out (-ffile-prefix-map).

PACKED      := Makefile README.md LICENSE NEWS SECURITY.md bench contrib include integration src tests
DEB_FOLDER  := $(BUILD)/deb
DEB_TREE    := $(DEB_FOLDER)/dragoman-$(VERSION)
# Another version than the changelog's, for a package between two releases: 0.1.0+git20261128.
DEB_VERSION ?=
DEB_OPTIONS ?= --no-sign --build=full

.PHONY: deb reproducible
deb:
	$(Q)rm -rf $(DEB_FOLDER) && mkdir -p $(DEB_TREE)
	$(Q)tar -c --mode=u=rwX,go=rX --exclude=__pycache__ $(PACKED) | tar -x -p -m -C $(DEB_TREE)
	$(Q)mv $(DEB_TREE)/contrib/debian $(DEB_TREE)/debian
	$(Q)grep -q '^dragoman ($(VERSION))' $(DEB_TREE)/debian/changelog || \
		{ echo 'deb: contrib/debian/changelog is not of version $(VERSION)' >&2; exit 1; }
	$(if $(DEB_VERSION),$(Q)sed -i '1s/(.*)/($(DEB_VERSION))/' $(DEB_TREE)/debian/changelog)
	$(call say,DEB,$(DEB_FOLDER))
	$(Q)cd $(DEB_TREE) && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u BUILD \
		dpkg-buildpackage $(DEB_OPTIONS) >../log 2>&1 || { tail -n 30 ../log >&2; exit 1; }
	$(Q)ls $(DEB_FOLDER)/*.deb

# Two builds, compared.
reproducible:
	$(Q)contrib/check-reproducible
	$(call ok,$@)

.PHONY: list-packed
list-packed:
	@printf '%s\n' $(PACKED)
