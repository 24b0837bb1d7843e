/* tests/support/child.c: see child.h. */
#include "support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 30

int test_child(void (*fn)(void *arg), void *arg)
{
	int status = -1;

	(void)fflush(stdout);
	(void)fflush(stderr);
	pid_t pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		(void)alarm(CHILD_SECONDS);
		fn(arg);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		abort();
	return status;
}

bool test_died(int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) != SIGALRM;
	return WIFEXITED(status) && WEXITSTATUS(status) != 0 &&
	       WEXITSTATUS(status) != TEST_EXPECT_FAILED;
}

void test_expect(bool holds)
{
	if (!holds)
		_exit(TEST_EXPECT_FAILED);
}

bool test_has_program(const char *name)
{
	const char *path = getenv("PATH");

	while (path && *path) {
		char file[PATH_MAX];
		size_t length = strcspn(path, ":");
		(void)snprintf(file, sizeof(file), "%.*s/%s", (int)length, path, name);
		if (access(file, X_OK) == 0)
			return true;
		path += length + (path[length] == ':');
	}
	return false;
}

pid_t test_spawn(const char *const *argv, const int *fds)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid)
		return pid < 0 ? -errno : pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	for (; *fds >= 0; fds++)
		(void)fcntl(*fds, F_SETFD, 0);
	if (getppid() == parent) /* who could have died before we asked to be told */
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

void test_kill(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}
