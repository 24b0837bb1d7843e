/* SPDX-License-Identifier: MIT
 * tools/demi/doctor_xdp.c - what AF_XDP needs of the machine and of who asks: kernel, privilege,
 * memory, plug-in, helper; and a trial of all together, apart from everything.
 */
#include "doctor.h"

#include "process.h"
#include "tool.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PLUG_IN        "libdemitasse-xdp.so"
#define HELPER_DEFAULT "/run/demitasse/xdp.sock"
#define MEMORY_DEFAULT (64UL << 20)
#define NEEDED         "cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock"
#define TRIAL_MS       10000
/* An address of those for documentation (RFC 5737), on an interface that nobody else sees. */
#define TRIAL_ADDRESS   "192.0.2.1/24"
#define TRIAL_INTERFACE "demi-probe"
#define NO_INTERFACE    "demi-nothing"

/* ---- kernel ---- */

static void check_kernel(struct finding *finding)
{
	struct utsname system;
	char *end;

	uname(&system);
	unsigned long version = strtoul(system.release, &end, 10) * 1000;
	if (*end == '.')
		version += strtoul(end + 1, NULL, 10);
	if (version < 5018) {
		found(finding, LEVEL_MISSING, "%s: XDP programs for several buffers need 5.18",
		      system.release);
		mend_by(finding, "apt-get install linux-image-amd64 && reboot");
	} else {
		found(finding, LEVEL_OK, "%s%s", system.release,
		      version < 6006 ? ": frames of several buffers, and so jumbo frames, need 6.6"
				     : "");
	}
}

static void check_sockets(struct finding *finding)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		close(fd);
		found(finding, LEVEL_OK, "can be opened");
		return;
	}
	found(finding, LEVEL_MISSING, "%s",
	      errno == EAFNOSUPPORT ? "a kernel without CONFIG_XDP_SOCKETS" : strerror(errno));
	if (errno == EPERM)
		mend_by_capability(finding, "cap_net_raw");
}

static void check_programs(struct finding *finding)
{
	int fd = probe_program(true);
	unsigned long others = read_count("/proc/sys/kernel/unprivileged_bpf_disabled");

	if (fd >= 0) {
		close(fd);
		found(finding, LEVEL_OK,
		      "can be loaded (kernel.unprivileged_bpf_disabled=%lu concerns others only)",
		      others);
		return;
	}
	int error = errno;

	found(finding, LEVEL_MISSING, "cannot be loaded: %s%s", strerror(error),
	      error == ENOSYS   ? " (CONFIG_BPF_SYSCALL, or a seccomp filter)"
	      : error == EINVAL ? " (a kernel older than 5.18)"
				: "");
	if (error == EPERM || error == EACCES)
		mend_by_capability(finding, "cap_net_admin,cap_bpf");
}

/* ---- privilege ---- */

static void check_capabilities(struct finding *finding)
{
	static const struct {
		unsigned number;
		const char *words;
	} needed[] = {
		{CAP_NET_RAW, "CAP_NET_RAW (XDP sockets)"},
		{CAP_NET_ADMIN, "CAP_NET_ADMIN (attaching a program)"},
		{CAP_BPF, "CAP_BPF (loading it)"},
	};

	char missing[sizeof(finding->detail)] = "";
	size_t length = 0;

	for (size_t i = 0; i < TOOL_COUNT(needed); i++) {
		if (!has_capability(needed[i].number))
			length += (size_t)snprintf(missing + length, sizeof(missing) - length,
						   "%s%s", length ? ", " : "", needed[i].words);
	}
	if (length == 0) {
		found(finding, LEVEL_OK, "all there%s",
		      has_capability(CAP_SYS_ADMIN)
			      ? ""
			      : "; but CAP_SYS_ADMIN, which libxdp's dispatcher needs to share an "
				"interface with other XDP programs");
		return;
	}
	found(finding, LEVEL_WARN, "missing: %s; or a helper that has them", missing);
	mend_by(finding,
		"setcap " NEEDED
		"+ep PROGRAM, or, as root: demi xdp-helper --interface NAME --group GROUP");
}

static unsigned long memory_wanted(void)
{
	const char *text = environment("DEMI_XDP_MEMORY_BYTES", "");
	unsigned long bytes = strtoul(text, NULL, 10);

	return bytes ? (bytes + (2UL << 20) - 1) & ~((2UL << 20) - 1) : MEMORY_DEFAULT;
}

static void check_memory(struct finding *finding)
{
	unsigned long bytes = memory_wanted();
	struct rlimit limit = {0};
	struct probe_socket xsk;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (probe_socket_open(&xsk, bytes) == 0) {
		probe_socket_close(&xsk);
		found(finding, LEVEL_OK, "%lu MiB can be registered (demitasse.xdp.memory_bytes)",
		      bytes >> 20);
		return;
	}
	if (errno != ENOBUFS) {
		found(finding, LEVEL_WARN, "not tried: %s", strerror(errno));
		return;
	}
	found(finding, LEVEL_MISSING,
	      "%lu MiB (demitasse.xdp.memory_bytes) are more than may be locked: %lu KiB",
	      bytes >> 20, (unsigned long)limit.rlim_cur >> 10);
	mend_by(finding,
		"LimitMEMLOCK=infinity in its systemd unit, ulimit -l unlimited as root, setcap "
		"cap_ipc_lock+ep PROGRAM, or DEMI_XDP_MEMORY_BYTES=4194304");
}

static void check_bpffs(struct finding *finding)
{
	const char *place = environment("LIBXDP_BPFFS", "/sys/fs/bpf");
	struct statfs fs;

	if (statfs(place, &fs) || fs.f_type != BPF_FS_MAGIC) {
		found(finding, LEVEL_WARN,
		      "none at %s: our program is attached alone, and no other beside it", place);
		mend_by(finding, "mount -t bpf bpf %s", place);
	} else if (access(place, R_OK | W_OK | X_OK)) {
		found(finding, LEVEL_WARN, "%s: %s: our program is attached alone", place,
		      strerror(errno));
	} else {
		found(finding, LEVEL_OK, "at %s", place);
	}
}

/* ---- what needs the library: in a child ---- */

struct trial {
	/* shared with the child */
	bool apart; /* in a network namespace of its own, on a TAP interface */
	int error;
	char plug_in[256];
	char errors[256];
	char news[256]; /* warnings, else what it tells */
};

static void keep_line(void *arg, enum demi_log_level level, const char *message)
{
	struct trial *trial = arg;

	if (level == DEMI_LOG_ERROR)
		tool_copy_text(trial->errors, sizeof(trial->errors), message);
	else
		tool_copy_text(trial->news, sizeof(trial->news), message);
}

static int keep_plug_in(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct trial *trial = arg;

	(void)size;
	if (strstr(info->dlpi_name, PLUG_IN))
		tool_copy_text(trial->plug_in, sizeof(trial->plug_in), info->dlpi_name);
	return 0;
}

/* A TAP interface that is up, as long as the process lives.  0 or a positive errno. */
static int make_tap(void)
{
	struct ifreq ifr = {.ifr_name = TRIAL_INTERFACE, .ifr_flags = IFF_TAP | IFF_NO_PI};
	int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (tap < 0 || fd < 0 || ioctl(tap, TUNSETIFF, &ifr))
		return errno;
	ifr.ifr_flags = IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) ? errno : 0;
}

static int open_afxdp(struct trial *trial)
{
	const char *const pairs[][2] = {
		{"device", "afxdp"},
		{"interface", trial->apart ? TRIAL_INTERFACE : NO_INTERFACE},
		{"addresses", TRIAL_ADDRESS},
		{"xdp_helper", ""},
		{"xdp_queue", "0"},
		{"xdp_queues", "1"},
		{"stat_socket", "off"},
	};
	struct demi_args args = {0};

	demi_set_log(keep_line, trial);
	for (size_t i = 0; i < TOOL_COUNT(pairs); i++)
		(void)demi_set_config(pairs[i][0], pairs[i][1]);
	setenv("LIBOS", "catpowder", 1);
	return demi_init(&args);
}

static int trial_main(void *arg, int control)
{
	struct trial *trial = arg;

	(void)control;
	if (trial->apart && (unshare(CLONE_NEWNET) || (errno = make_tap()))) {
		trial->error = errno;
		snprintf(trial->errors, sizeof(trial->errors), "not tried: %s", strerror(errno));
		return 1;
	}
	trial->error = open_afxdp(trial);
	dl_iterate_phdr(keep_plug_in, trial);
	if (trial->error == 0)
		demi_fini();
	return 0;
}

/* NULL: it could not be run.  Given back by munmap. */
static struct trial *run_trial(bool apart)
{
	struct process child = {0};
	int status = 0;
	struct trial *trial = mmap(NULL, sizeof(*trial), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (trial == MAP_FAILED)
		return NULL;
	trial->apart = apart;
	trial->error = ETIMEDOUT;
	if (process_start(&child, -1, trial_main, trial) == 0) {
		(void)process_await_end(&child, TRIAL_MS, &status);
		process_kill(&child);
	}
	return trial;
}

/* Asked for an interface that is not there, it is loaded, and then refuses. */
static void check_plug_in(struct finding *finding)
{
	struct trial *trial = run_trial(false);

	if (!trial)
		return;
	if (trial->plug_in[0]) {
		found(finding, LEVEL_OK, "%s fits", trial->plug_in);
	} else {
		found(finding, LEVEL_MISSING, "%s", trial->errors);
		if (trial->error == ENOENT)
			mend_by(finding, "apt-get install libxdp-dev libbpf-dev clang && make && "
					 "make install, or DEMI_PLUGIN_DIR=DIRECTORY");
		else
			mend_by(finding, "make install, of one build");
	}
	munmap(trial, sizeof(*trial));
}

static void check_all(struct finding *finding)
{
	struct trial *trial = run_trial(true);

	if (!trial)
		return;
	if (trial->error == 0)
		found(finding, LEVEL_OK, "works on a TAP interface in a network namespace: %s",
		      trial->news);
	else if (strncmp(trial->errors, "not tried", 9) == 0)
		found(finding, LEVEL_WARN, "%s", trial->errors);
	else
		found(finding, LEVEL_MISSING, "%s",
		      trial->errors[0] ? trial->errors : strerror(trial->error));
	munmap(trial, sizeof(*trial));
}

static void check_helper(struct finding *finding)
{
	const char *asked = environment("DEMI_XDP_HELPER", "");
	const char *path = *asked ? asked : HELPER_DEFAULT;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	tool_copy_text(address.sun_path, sizeof(address.sun_path), path);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
		found(finding, LEVEL_OK, "answers at %s%s", path,
		      *asked ? "" : " (DEMI_XDP_HELPER names it to applications)");
	} else if (*asked) {
		found(finding, LEVEL_MISSING, "%s: %s", path, strerror(errno));
		if (errno == EACCES)
			mend_by(finding, "usermod -a -G GROUP $USER, the group of the socket");
		else
			mend_by(finding, "demi xdp-helper --interface NAME --socket %s, as root",
				path);
	} else {
		found(finding, LEVEL_OK,
		      "none configured, none at %s; only who lacks the "
		      "capabilities needs one",
		      path);
	}
	if (fd >= 0)
		close(fd);
}

void examine_xdp(struct findings *findings)
{
	static const struct {
		const char *name;
		void (*check)(struct finding *finding);
	} needs[] = {
		{"kernel", check_kernel},         {"XDP sockets", check_sockets},
		{"XDP programs", check_programs}, {"capabilities", check_capabilities},
		{"memory", check_memory},         {"bpffs", check_bpffs},
		{"plug-in", check_plug_in},       {"helper", check_helper},
		{"all together", check_all},
	};

	for (size_t i = 0; i < TOOL_COUNT(needs); i++)
		needs[i].check(finding_add(findings, needs[i].name));
}
