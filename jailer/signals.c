/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal that ended the jailer half way would leave half a jail. So those by
 * which people and orchestrators end processes wait. One that came is a failure
 * like others, and when that is undone it does what it was sent for.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <signal.h>

static const int held[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/* Where a write cannot go on: its error has a sentence, its signal has not. */
static const int ignored[] = {SIGPIPE, SIGXFSZ};

/* What the caller has ignored (as nohup does) stays so, also if it is held. */
static bool is_ignored(int sig)
{
	struct sigaction action;

	return sigaction(sig, NULL, &action) == 0 &&
	       action.sa_handler == SIG_IGN;
}

static void held_set(sigset_t *ret)
{
	sigemptyset(ret);
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		sigaddset(ret, held[i]);
}

int jail_hold_signals(struct jail *jail, struct error *err)
{
	sigset_t set;

	(void)jail;
	(void)err;
	held_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	return 0;
}

int jail_heed_signals(struct jail *jail, struct error *err)
{
	sigset_t pending;

	(void)jail;
	sigemptyset(&pending);
	sigpending(&pending);
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		if (sigismember(&pending, held[i]) && !is_ignored(held[i]))
			return error_set(err, EINTR,
					 "Signal %d came before the monitor "
					 "ran.",
					 held[i]);
	return 0;
}

void jail_reset_signals(void)
{
	sigset_t none;

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}
