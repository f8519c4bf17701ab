/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the attacks and prints a TAP line for each. Started by the jailer, so
 * it takes what a monitor takes, and after that, in pairs:
 *
 *   --role   attacker (if not given), signaller, victim, root?, nothing
 *   --walls  which stand: words with commas between them
 *   --class  thread class whose filter is one of them
 *   --outside, --sibling, --secret, --scratch, --abstract, --port, --keep,
 *   --program  as in struct target
 */
#include "tests/attacks/attack.h"

#include "vmm/seccomp.h"
#include "vmm/util.h"

#include <errno.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

char victims_secret[16] = "not for others";

int outcome(long ret)
{
	return ret < 0 ? -errno : 0;
}

const char *in_scratch(const struct target *target, const char *name,
		       char path[256])
{
	snprintf(path, 256, "%s/%s", target->scratch, name);
	return path;
}

/* ------------------------------------------------------------- the command */

struct command {
	const char *role, *class, *walls;
	struct target target;
};

static const char *value_of(int argc, char *argv[], const char *name,
			    const char *otherwise)
{
	for (int i = 1; i + 1 < argc; i += 2)
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	return otherwise;
}

static struct command read_command(int argc, char *argv[])
{
#define VALUE(name, otherwise) value_of(argc, argv, name, otherwise)
	return (struct command){
		.role = VALUE("--role", "attacker"),
		.class = VALUE("--class", NULL),
		.walls = VALUE("--walls", ""),
		.target =
			{
				.outside = atoi(VALUE("--outside", "0")),
				.sibling = atoi(VALUE("--sibling", "0")),
				.secret = VALUE("--secret", "/nowhere"),
				.scratch = VALUE("--scratch", "/run"),
				.abstract = VALUE("--abstract", "nobody"),
				.port = atoi(VALUE("--port", "0")),
				.program = VALUE("--program", argv[0]),
				.kept_fd = atoi(VALUE("--keep", "-1")),
			},
	};
#undef VALUE
}

static unsigned int landlock_walls(void)
{
	static const struct {
		int abi;
		unsigned int wall;
	} abis[] = {{1, LANDLOCK_1},
		    {4, LANDLOCK_4},
		    {5, LANDLOCK_5},
		    {6, LANDLOCK_6}};
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	unsigned int walls = 0;

	for (size_t i = 0; i < ARRAY_SIZE(abis); i++)
		if (abi >= abis[i].abi)
			walls |= abis[i].wall;
	return walls;
}

/* How much Landlock withholds is up to the kernel. */
static unsigned int walls_of(const struct command *command)
{
	static const struct {
		const char *word;
		unsigned int wall;
	} words[] = {{"jail", JAIL},
		     {"pidns", PIDNS},
		     {"userns", USERNS},
		     {"netns", NETNS}};
	unsigned int walls = command->class ? FILTER : 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(command->walls, words[i].word))
			walls |= words[i].wall;
	if (strstr(command->walls, "landlock"))
		walls |= landlock_walls();
	return walls;
}

/* ------------------------------------------------------------- one attack */

/* Shared with the process that attacks. */
struct report {
	bool begun, over;
	int ret;     /* as from struct attack */
	int trapped; /* the system call that the filter caught, or -1 */
};

static struct report *report;

/* The call fails, and the attacker goes on. */
static void on_trap(int signum, siginfo_t *info, void *context)
{
	ucontext_t *interrupted = context;

	(void)signum;
	report->trapped = info->si_syscall;
	interrupted->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

static int put_on_filter(const char *class)
{
	static const char *const names[] = SECCOMP_CLASS_NAMES;
	struct sigaction action = {.sa_sigaction = on_trap,
				   .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct seccomp_filters *filters = NULL;
	int ret = seccomp_read_builtin(&filters, NULL);

	if (ret || !filters || sigaction(SIGSYS, &action, NULL))
		return ret ? ret : -ENOENT;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], class) == 0)
			return seccomp_enter(filters, (enum seccomp_class)i);
	return -EINVAL;
}

/* Never returns. What it has to say is in shared memory: the filter may not let
 * it end as it likes. */
static void attack_in_child(const struct attack *attack,
			    const struct command *command)
{
	if (command->class && put_on_filter(command->class))
		_exit(EXIT_FAILURE);
	report->begun = true;
	report->ret = attack->run(&command->target);
	report->over = true;
	_exit(EXIT_SUCCESS);
}

static int run_attack(const struct attack *attack,
		      const struct command *command)
{
	int status = 0;
	pid_t pid;

	*report = (struct report){.trapped = -1};
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		attack_in_child(attack, command);
	if (waitpid(pid, &status, 0) != pid || !report->begun)
		return -ECHILD;
	/* Without a handler: where the call was of another architecture. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		report->trapped = 0;
	/* An exec that worked. */
	if (!report->over && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		report->ret = 0;
		report->over = true;
	}
	return 0;
}

/* ------------------------------------------------------------- judgement */

static bool refused_rightly(const struct attack *attack, int ret)
{
	for (size_t i = 0; i < ERRNOS_MAX && attack->refusals[i]; i++)
		if (ret == -attack->refusals[i])
			return true;
	return false;
}

/* @walls that stand; says why in @why. */
static bool judge(const struct attack *attack, unsigned int walls,
		  const char **why)
{
	bool other = attack->walls & walls & ~(unsigned int)FILTER;
	int ret = report->ret;

	if (report->trapped >= 0) {
		*why = "the filter refused it";
		return true;
	}
	if (!report->over) {
		*why = "the process died of it";
		return false;
	}
	if (ret == 0) {
		*why = "it worked";
		return !(attack->walls & walls);
	}
	*why = strerrorname_np(-ret);
	if (other)
		return refused_rightly(attack, ret);
	/* Nothing of ours was in the way. */
	return attack->remarks & HOST_DECIDES &&
	       (walls == 0 || refused_rightly(attack, ret));
}

struct tally {
	unsigned int walls;
	int count, failed;
};

static void try_one(const struct attack *attack, const struct command *command,
		    struct tally *tally)
{
	const char *why = "it could not be tried";
	bool good = false;
	int ret = 0;

	tally->count++;
	if (!tally->walls && attack->remarks & ONLY_JAILED) {
		printf("ok %d - %s # SKIP not outside of a jail\n",
		       tally->count, attack->name);
		return;
	}
	ret = run_attack(attack, command);
	if (!ret && report->trapped < 0 && report->over &&
	    report->ret == NOT_HERE) {
		printf("ok %d - %s # SKIP not here\n", tally->count,
		       attack->name);
		return;
	}
	if (!ret)
		good = judge(attack, tally->walls, &why);
	tally->failed += !good;
	printf("%s %d - %s: %s\n", good ? "ok" : "not ok", tally->count,
	       attack->name, why);
}

static int attack_all(const struct command *command)
{
	static const struct attack_table *const tables[] = {
		&file_attacks, &process_attacks, &network_attacks,
		&kernel_attacks};
	struct tally tally = {.walls = walls_of(command)};

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		return EXIT_FAILURE;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (size_t j = 0; j < tables[i]->count; j++)
			try_one(&tables[i]->attacks[j], command, &tally);
	printf("1..%d\n", tally.count);
	return tally.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* --------------------------------------------------------------- victims */

static void on_hit(int signum)
{
	static const char line[] = "HIT\n";

	(void)signum;
	if (write(STDOUT_FILENO, line, sizeof(line) - 1) < 0)
		_exit(EXIT_FAILURE);
}

/* Makes it as easy as a process can, and says when it is hit. */
static _Noreturn void be_victim(void)
{
	signal(SIGUSR1, on_hit);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	prctl(PR_SET_PTRACER, -1, 0, 0, 0);
	puts("READY");
	fflush(stdout);
	for (;;)
		pause();
}

/* Whoever heard it tells. */
static int signal_all(void)
{
	signal(SIGUSR1, SIG_IGN);
	return kill(-1, SIGUSR1) == 0 ? EXIT_SUCCESS : errno;
}

int main(int argc, char *argv[])
{
	const struct command command = read_command(argc, argv);

	if (strcmp(command.role, "nothing") == 0)
		return EXIT_SUCCESS;
	if (strcmp(command.role, "root?") == 0)
		return geteuid() == 0 ? EXIT_SUCCESS : EPERM;
	if (strcmp(command.role, "victim") == 0)
		be_victim();
	if (strcmp(command.role, "signaller") == 0)
		return signal_all();
	return attack_all(&command);
}
