/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnl can print and read names of hosts and protocols, which the jailer never
 * asks for. With these in the place of libc's, a static program does not have
 * the resolver in it, and cannot load the host's libraries as root.
 */
#include <netdb.h>
#include <stddef.h>

int getaddrinfo(const char *restrict name, const char *restrict service,
		const struct addrinfo *restrict hints,
		struct addrinfo **restrict ret_list)
{
	(void)name;
	(void)service;
	(void)hints;
	(void)ret_list;
	return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list)
{
	(void)list;
}

struct protoent *getprotobyname(const char *name)
{
	(void)name;
	return NULL;
}

struct protoent *getprotobynumber(int number)
{
	(void)number;
	return NULL;
}
