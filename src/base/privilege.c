/* SPDX-License-Identifier: MIT */
#include "dragoman/base/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/securebits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "dragoman/base/memory.h"
#include "dragoman/base/text.h"
#include "privilege_private.h"

/*
 * Theory of operation
 *
 * This program may rewrite any container's network, and reads what strangers
 * write: environments, a registry, an engine's answers, HTTP requests. So
 * before it looks at any of that, it gives up in this order what it has no use
 * for, each step while the right to take it is still there:
 *
 *   1. Core dumps. A password or a token is in memory as long as the registry
 *      asks for it. RLIMIT_CORE is 0, but a core_pattern with a pipe
 *      (systemd-coredump) is not bound by that; PR_SET_DUMPABLE is what stops
 *      it, and another process of our user from reading our memory besides.
 *      /proc/PID belongs to root then, which bars nobody who has business
 *      there: /proc/self works as before, and who watches is root.
 *
 *   2. no_new_privs. No file that is executed, if any ever was, brings a
 *      privilege along. It is also what lets step 6 be taken without
 *      CAP_SYS_ADMIN.
 *
 *   3. Securebits, locked: user 0 is a user like any other from here on, to
 *      execve(2) and to set*uid(2). Needs CAP_SETPCAP. Who was started as
 *      another user, with ambient capabilities, has not got that and does not
 *      need it, by step 2.
 *
 *   4. The bounding set, for the same reason and with the same right.
 *
 *   5. Capabilities: effective and permitted down to what is needed, nothing
 *      inheritable, nothing ambient.
 *
 *   6. System calls (privilege_filter(), of the agent alone, which lives long
 *      and listens): see privilege_filter.c.
 *
 * The user stays. Root without CAP_DAC_OVERRIDE is the owner of root's files,
 * which is what the sockets of engines and the nsfs files below /run/netns
 * ask for, and it is nobody to other users' files. To be somebody else than
 * root is the service manager's to arrange; see contrib/systemd.
 *
 * It is done before any file is opened. A file that can be read at the start
 * and not by the rights that remain would be found out about by the agent much
 * later, when it reads it again: at SIGHUP, or when it connects anew.
 */

static const struct {
	unsigned capability;
	enum privilege privilege;
	const char *name;
} capabilities[] = {
	{CAP_NET_ADMIN, PRIVILEGE_KERNEL, "CAP_NET_ADMIN"},
	{CAP_SYS_ADMIN, PRIVILEGE_KERNEL, "CAP_SYS_ADMIN"},
	{CAP_SYS_PTRACE, PRIVILEGE_KERNEL, "CAP_SYS_PTRACE"},
	{CAP_DAC_READ_SEARCH, PRIVILEGE_READ, "CAP_DAC_READ_SEARCH"},
	{CAP_DAC_OVERRIDE, PRIVILEGE_CONNECT, "CAP_DAC_OVERRIDE"},
};

static int fail(struct error *error, int code, const char *what)
{
	return error_set(error, -code, ERROR_FATAL, "cannot %s: %s", what, strerror(code));
}

static int forbid_core_dumps(struct error *error)
{
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){0}) < 0)
		return fail(error, errno, "forbid core dumps");
	/* The leak detector traces the process that it is in. */
	if (!PRIVILEGE_SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return fail(error, errno, "forbid core dumps");
	return 0;
}

static int lock_securebits(struct error *error)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	/* EPERM: somebody has locked them in another position. */
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0 && errno != EPERM)
		return fail(error, errno, "set securebits");
	return 0;
}

/* Fills libcap-ng's idea of the process: first as it is, then as it shall be. */
static int choose_capabilities(unsigned keep, bool *ret_bounds, struct error *error)
{
	bool has[ARRAY_SIZE(capabilities)];

	if (capng_get_caps_process() < 0)
		return fail(error, errno ? errno : EIO, "read this process's capabilities");
	*ret_bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		has[i] = keep & capabilities[i].privilege &&
			 capng_have_capability(CAPNG_PERMITTED, capabilities[i].capability);
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (has[i])
			(void)capng_update(CAPNG_ADD,
					   CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
					   capabilities[i].capability);
	}
	return 0;
}

int privilege_drop(unsigned keep, struct error *error)
{
	capng_select_t sets = CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT;
	bool bounds = false;
	int r;

	if ((r = forbid_core_dumps(error)) < 0)
		return r;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(error, errno, "set no_new_privs");
	if ((r = choose_capabilities(keep, &bounds, error)) < 0 ||
	    (bounds && (r = lock_securebits(error)) < 0))
		return r;
	if (bounds)
		sets |= CAPNG_SELECT_BOUNDS;
	errno = 0;
	if (capng_apply(sets) < 0)
		return fail(error, errno ? errno : EPERM, "drop capabilities");
	return 0;
}

int privilege_check(unsigned needed, struct error *error)
{
	CLEANUP(text_done) struct text missing = {0};

	if (capng_get_caps_process() < 0)
		return fail(error, errno ? errno : EIO, "read this process's capabilities");
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (needed & capabilities[i].privilege &&
		    !capng_have_capability(CAPNG_EFFECTIVE, capabilities[i].capability))
			text_printf(&missing, "%s%s", missing.length ? ", " : "",
				    capabilities[i].name);
	}
	if (missing.failed)
		return error_no_memory(error);
	if (missing.length == 0)
		return 0;
	return error_set(error, -EPERM, ERROR_FATAL,
			 "no privilege: %s missing (root is needed, or a service manager that "
			 "gives capabilities)",
			 missing.data);
}
