/* SPDX-License-Identifier: MIT */
#ifndef DRAGOMAN_TESTS_KERNEL_DAMAGE_H
#define DRAGOMAN_TESTS_KERNEL_DAMAGE_H

/*
 * Ways to spoil a table and what is around it, as a person or another program
 * might: commands for lab_try_run() (kernel_lab.h). Those that do not apply
 * fail, and that is fine.
 */

#include <stddef.h>

extern const char *const kernel_damages[];
extern const size_t kernel_damage_count;

#endif
