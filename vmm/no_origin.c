/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before main, libc asks the kernel for the program's own path and copies it:
 * shared libraries may be looked for beside the program. A static program has
 * none. This says what libc's own says where there is no /proc.
 */
const char *_dl_get_origin(void) __attribute__((visibility("default")));

const char *_dl_get_origin(void)
{
	return (const char *)-1;
}
