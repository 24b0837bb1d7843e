/* tests/support/child.c: see child.h. */
#include "support/child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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
