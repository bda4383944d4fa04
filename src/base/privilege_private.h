/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_BASE_PRIVILEGE_PRIVATE_H
#define DRAGOMAN_BASE_PRIVILEGE_PRIVATE_H

/*
 * Whether this is a build with AddressSanitizer, whose leak detector stops
 * the process with a tracer of its own at the end. Never one that is installed.
 */
#if defined(__SANITIZE_ADDRESS__)
#define PRIVILEGE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PRIVILEGE_SANITIZED 1
#endif
#endif
#ifndef PRIVILEGE_SANITIZED
#define PRIVILEGE_SANITIZED 0
#endif

#endif
