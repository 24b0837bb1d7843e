/* SPDX-License-Identifier: MIT
 * netdev/dpdk/eal.c - DPDK's environment (EAL), of which a process has one: how it is started when
 * nothing is asked for, and what it says.
 */
#include "netdev/dpdk/dpdk.h"

#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB            ((uint64_t)1 << 20)
#define ARGUMENTS_MAX  64
#define TEXT_MAX       512
#define SPARE_BYTES    (64 * MIB) /* for what DPDK and its drivers allocate */
#define HUGE_PAGE_FREE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

struct eal_wish {
	const char *device;
	uint64_t bytes;
	bool chooses_bus; /* the user says which cards DPDK may take */
};

/* Stated exception to "no mutable globals": the process has one EAL, and it starts once. */
static struct {
	pthread_mutex_t lock;
	bool tried;
	int error; /* what its start came to */
	pid_t pid; /* who started it */
	char said[256];
	FILE *log;
} eal = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *eal_said(void)
{
	return eal.said;
}

static bool is_pending(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

void eal_quiet_begin(struct eal_quiet *quiet)
{
	sigset_t pipe;

	(void)sigemptyset(&pipe);
	(void)sigaddset(&pipe, SIGPIPE);
	quiet->pending = is_pending();
	(void)pthread_sigmask(SIG_BLOCK, &pipe, &quiet->before);
}

/* A signal that came meanwhile was for the driver: it is taken. */
void eal_quiet_end(const struct eal_quiet *quiet)
{
	static const struct timespec now;
	sigset_t pipe;

	(void)sigemptyset(&pipe);
	(void)sigaddset(&pipe, SIGPIPE);
	if (!quiet->pending && is_pending())
		(void)sigtimedwait(&pipe, NULL, &now);
	(void)pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
}

/* DPDK's log: its last line that is not empty is kept. */
static ssize_t keep_line(void *cookie, const char *text, size_t length)
{
	size_t kept = length < sizeof(eal.said) - 1 ? length : sizeof(eal.said) - 1;

	(void)cookie;
	while (kept > 0 && (text[kept - 1] == '\n' || text[kept - 1] == ' '))
		kept--;
	if (kept > 0) {
		memcpy(eal.said, text, kept);
		eal.said[kept] = '\0';
	}
	return (ssize_t)length;
}

static void keep_log(void)
{
	eal.log = fopencookie(NULL, "w", (cookie_io_functions_t){.write = keep_line});
	if (!eal.log)
		return;
	(void)setvbuf(eal.log, NULL, _IOLBF, 0);
	(void)rte_openlog_stream(eal.log);
}

static uint64_t huge_bytes_free(void)
{
	char text[32] = "";
	FILE *file = fopen(HUGE_PAGE_FREE, "re");

	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	(void)fclose(file);
	return strtoull(text, NULL, 10) * 2 * MIB;
}

/* Words of text, which is cut up, behind the first num of argv; how many there are then. */
static int add_words(char **argv, int num, char *text)
{
	char *rest = NULL;

	for (char *word = strtok_r(text, " ", &rest); word && num < ARGUMENTS_MAX - 1;
	     word = strtok_r(NULL, " ", &rest))
		argv[num++] = word;
	return num;
}

/* Does a word begin with one of the options, which NULL ends? */
static bool is_option(const char *word, const char *const *options)
{
	for (; *options; options++) {
		if (strncmp(word, *options, strlen(*options)) == 0)
			return true;
	}
	return false;
}

static bool has_option(char *const *words, int num, const char *const *options)
{
	for (int i = 0; i < num; i++) {
		if (is_option(words[i], options))
			return true;
	}
	return false;
}

/* Of the words that the user gave, takes out what is not for us: a program's name, and choices of
 * cores, since nothing of ours runs on the EAL's threads.  How many are left. */
static int sift(const struct sched *sched, char **words, int num)
{
	static const char *const cores[] = {"-c", "-l", "--lcores", "--main-lcore", NULL};
	int kept = 0;

	for (int i = 0; i < num; i++) {
		if (!is_option(words[i], cores)) {
			if (i > 0 || words[i][0] == '-')
				words[kept++] = words[i];
			continue;
		}
		log_write(
			&sched->log, LOG_LEVEL_INFO,
			"dpdk.eal_init: %s is passed over: an instance runs where its thread does",
			words[i]);
		bool is_short = words[i][1] != '-';
		if (is_short ? !words[i][2] : !strchr(words[i], '='))
			i++; /* its value is the next word */
	}
	return kept;
}

/* What the EAL is started with, in front of the user's words.  It takes a core for itself, though
 * nothing runs there: the one that we are on. */
static void write_arguments(char *text, const struct sched *sched, const struct eal_wish *wish)
{
	const struct config *config = &sched->config;
	bool huge = huge_bytes_free() >= wish->bytes && config->huge_pages != PAGES_HUGE_NEVER;
	bool pci = *wish->device && !is_virtual(wish->device);
	const char *bus = pci ? "-a" : "--no-pci";
	int cpu = sched_getcpu();

	if (wish->chooses_bus)
		bus = "";
	int length = snprintf(text, TEXT_MAX,
			      "demitasse --lcores 0@%d --no-telemetry "
			      "--single-file-segments %s %s ",
			      cpu < 0 ? 0 : cpu, bus, pci && *bus ? wish->device : "");
	if (huge)
		(void)snprintf(text + length, TEXT_MAX - (size_t)length, "--in-memory ");
	else
		(void)snprintf(text + length, TEXT_MAX - (size_t)length,
			       "--no-huge --no-shconf -m %llu ",
			       (unsigned long long)((wish->bytes + MIB - 1) / MIB));
	log_write(&sched->log, LOG_LEVEL_INFO, "DPDK: %s",
		  huge ? "memory of huge pages"
		       : "memory without huge pages, of which there are too few "
			 "(sysctl vm.nr_hugepages)");
}

/* Which of its needs the EAL most likely lacks. */
static const char *remedy(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return ": it lacks a permission";
	case ENOMEM:
		return ": memory is short: fewer demitasse.dpdk.memory_bytes, or more huge pages";
	case EBUSY:
		return ": another process has the device";
	default:
		return "";
	}
}

static int start_locked(struct sched *sched, const char *device, uint64_t bytes)
{
	static const char *const buses[] = {"-a", "--allow",  "-b", "--block",
					    "-w", "--no-pci", NULL};
	char text[TEXT_MAX];
	char more[sizeof(sched->config.dpdk_eal)];
	char *words[ARGUMENTS_MAX] = {NULL};
	char *argv[ARGUMENTS_MAX * 2] = {NULL};
	cpu_set_t cpus;

	keep_log();
	memcpy(more, sched->config.dpdk_eal, sizeof(more));
	int num_words = sift(sched, words, add_words(words, 0, more));
	const struct eal_wish wish = {.device = device,
				      .bytes = bytes,
				      .chooses_bus = has_option(words, num_words, buses)};
	write_arguments(text, sched, &wish);
	int num = add_words(argv, 0, text);
	memcpy(argv + num, words, (size_t)num_words * sizeof(*words));
	num += num_words;
	bool pinned = pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus) == 0;
	int started = rte_eal_init(num, argv);
	int error = started < 0 ? rte_errno : 0;
	if (pinned) /* it pins the thread that starts it */
		(void)pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	if (started >= 0)
		return 0;
	log_write(&sched->log, LOG_LEVEL_ERROR, "DPDK does not start: %s%s (it said: %s)",
		  strerror(error), remedy(error), eal.said);
	return error > 0 ? -error : -EIO;
}

int eal_start(struct sched *sched, const char *device, uint64_t bytes)
{
	pthread_mutex_lock(&eal.lock);
	bool again = eal.tried;
	if (!eal.tried) {
		eal.tried = true;
		eal.pid = getpid();
		eal.error = start_locked(sched, device, bytes + SPARE_BYTES);
	}
	int err = eal.error;
	bool forked = eal.pid != getpid();
	pthread_mutex_unlock(&eal.lock);
	if (forked) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "DPDK: it was started before this process was forked: start it in the "
			  "child only");
		return -ENOTSUP;
	}
	if (err && again)
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "DPDK did not start, and can be tried once a process: %s",
			  strerror(-err));
	return err;
}
