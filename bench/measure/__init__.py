# SPDX-License-Identifier: MIT
"""The sections, each a module with run(results): what is measured, and how it is kept fair."""
