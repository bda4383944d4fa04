/* SPDX-License-Identifier: MIT */
/*
 * empty
 *
 * Does nothing, and is linked with everything that dragoman is linked with: what
 * it takes to start is the loader's work and the libraries' own beginnings.
 */
int main(void)
{
	return 0;
}
