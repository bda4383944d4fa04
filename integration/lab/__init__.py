# SPDX-License-Identifier: MIT
"""The laboratory: what integration tests are made of.

Everything here belongs to one test and goes with it: namespaces by exact
name, processes by the handle that started them. Nothing touches the host's
own rules, sysctls or addresses.
"""
