/* SPDX-License-Identifier: MIT
 * tools/demi/doctor.c - `demi doctor`: what this machine can do, found out by trying, and the
 * command that mends what it cannot.
 */
#include "doctor.h"

#include "options.h"
#include "probe.h"
#include "process.h"
#include "report.h"
#include "tool.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <liburing.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES   (2UL << 20)
#define MEMLOCK_BYTES_FEW (64UL << 20)
#define PROBE_BYTES       (64UL * 4096)

static const char *const level_names[] = {"OK", "WARN", "MISSING"};

/* ---- findings ---- */

struct finding *finding_add(struct findings *findings, const char *name)
{
	struct finding *finding = &findings->list[findings->count++]; /* as many as are written */

	*finding = (struct finding){0};
	tool_copy_text(finding->name, sizeof(finding->name), name);
	return finding;
}

void found(struct finding *finding, enum level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	finding->level = level;
	vsnprintf(finding->detail, sizeof(finding->detail), format, args);
	va_end(args);
}

void mend_by(struct finding *finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->mend, sizeof(finding->mend), format, args);
	va_end(args);
}

void mend_by_capability(struct finding *finding, const char *capabilities)
{
	char program[128] = "build/demi";
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);

	if (length > 0)
		program[length] = '\0';
	mend_by(finding, "setcap %s+ep %s", capabilities, program);
}

const char *environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

/* ---- capabilities of the machine ---- */

static void check_uring(struct finding *finding)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN};
	struct io_uring ring;
	int error = io_uring_queue_init_params(8, &ring, &params);

	if (!error) {
		io_uring_queue_exit(&ring);
		found(finding, LEVEL_OK, "works, with deferred task work");
	} else if (error == -EINVAL) {
		found(finding, LEVEL_WARN, "a kernel older than 6.1: no deferred task work");
	} else if (error == -EPERM) {
		found(finding, LEVEL_WARN,
		      "forbidden (kernel.io_uring_disabled or a seccomp filter); direct calls "
		      "serve instead");
		mend_by(finding, "sysctl -w kernel.io_uring_disabled=0");
	} else {
		found(finding, LEVEL_WARN, "%s; direct calls serve instead", strerror(-error));
	}
}

unsigned long read_count(const char *path)
{
	char text[32] = "";
	FILE *file = fopen(path, "re");

	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strtoul(text, NULL, 10);
}

static void check_huge_pages(struct finding *finding)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	void *page = mmap(NULL, HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	unsigned long free_pages =
		read_count("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");

	if (page != MAP_FAILED) {
		munmap(page, HUGE_PAGE_BYTES);
		found(finding, LEVEL_OK, "%lu free pages of 2 MiB", free_pages);
		return;
	}
	found(finding, LEVEL_WARN, "no free page of 2 MiB; plain pages serve instead");
	mend_by(finding, "sysctl -w vm.nr_hugepages=64");
}

static void check_memlock(struct finding *finding)
{
	struct rlimit limit = {0};
	void *page = mmap(NULL, MEMLOCK_BYTES_FEW, PROT_READ,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool locks = page != MAP_FAILED && mlock2(page, MEMLOCK_BYTES_FEW, MLOCK_ONFAULT) == 0;

	if (page != MAP_FAILED)
		munmap(page, MEMLOCK_BYTES_FEW);
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (locks && limit.rlim_cur == RLIM_INFINITY) {
		found(finding, LEVEL_OK, "not limited");
	} else if (locks) {
		found(finding, LEVEL_OK, "64 MiB can be locked (limit %lu KiB)",
		      (unsigned long)limit.rlim_cur >> 10);
	} else {
		found(finding, LEVEL_WARN, "%lu KiB: too little to register memory with a device",
		      (unsigned long)limit.rlim_cur >> 10);
		mend_by(finding, "echo '* - memlock unlimited' >> /etc/security/limits.conf");
	}
}

static void check_net_raw(struct finding *finding)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		close(fd);
		found(finding, LEVEL_OK, "packet sockets can be opened");
		return;
	}
	found(finding, LEVEL_MISSING, "no packet sockets: %s", strerror(errno));
	if (errno == EPERM)
		mend_by_capability(finding, "cap_net_raw,cap_net_admin");
}

bool has_capability(unsigned number)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capget, &header, sets) == 0 &&
	       (sets[CAP_TO_INDEX(number)].effective & CAP_TO_MASK(number));
}

static void check_tap(struct finding *finding)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		found(finding, LEVEL_MISSING, "/dev/net/tun: %s", strerror(errno));
		if (errno == EACCES)
			mend_by_capability(finding, "cap_net_admin,cap_dac_override");
		else
			mend_by(finding, "modprobe tun");
		return;
	}
	close(fd);
	if (has_capability(CAP_NET_ADMIN)) {
		found(finding, LEVEL_OK, "interfaces can be made");
		return;
	}
	found(finding, LEVEL_WARN,
	      "no CAP_NET_ADMIN: only interfaces that were made for this user");
	mend_by(finding, "ip tuntap add tap0 mode tap user $USER");
}

static void check_bpf(struct finding *finding)
{
	int fd = probe_program(false);

	if (fd >= 0) {
		close(fd);
		found(finding, LEVEL_OK, "XDP programs can be loaded");
		return;
	}
	found(finding, LEVEL_MISSING, "no XDP programs: %s", strerror(errno));
	if (errno == EPERM)
		mend_by_capability(finding, "cap_bpf,cap_net_admin");
}

static void check_xdp(struct finding *finding)
{
	struct probe_socket xsk;

	if (probe_socket_open(&xsk, PROBE_BYTES) == 0) {
		probe_socket_close(&xsk);
		found(finding, LEVEL_OK, "sockets can be opened");
		return;
	}
	found(finding, LEVEL_MISSING, "%s",
	      errno == EAFNOSUPPORT ? "a kernel without CONFIG_XDP_SOCKETS" : strerror(errno));
	if (errno == EPERM)
		mend_by_capability(finding, "cap_net_raw,cap_net_admin,cap_bpf");
}

static void check_dpdk(struct finding *finding)
{
	/* DPDK's libraries have memory that they do not free: they stay, as they do in the library
	 */
	if (dlopen("libdemitasse-dpdk.so", RTLD_LAZY | RTLD_LOCAL)) {
		found(finding, LEVEL_OK, "libdemitasse-dpdk.so loads");
		return;
	}
	if (access("/usr/include/dpdk/rte_eal.h", R_OK) == 0) {
		found(finding, LEVEL_MISSING,
		      "DPDK is installed, this build has no libdemitasse-dpdk.so");
		return;
	}
	found(finding, LEVEL_MISSING, "no libdemitasse-dpdk.so, and DPDK is not installed");
	mend_by(finding, "apt-get install dpdk libdpdk-dev");
}

/* Number of paths that match. */
static size_t count_paths(const char *pattern)
{
	glob_t paths = {0};
	size_t count = glob(pattern, GLOB_NOSORT, NULL, &paths) == 0 ? paths.gl_pathc : 0;

	globfree(&paths);
	return count;
}

static void check_rdma(struct finding *finding)
{
	size_t count = count_paths("/sys/class/infiniband/*");

	if (count) {
		found(finding, LEVEL_OK, "%zu device%s", count, count == 1 ? "" : "s");
		return;
	}
	found(finding, LEVEL_MISSING, "no device; a software one needs the kernel's rdma_rxe");
	mend_by(finding, "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0");
}

static void check_nvme(struct finding *finding)
{
	size_t count = count_paths("/dev/nvme*n*");

	if (count)
		found(finding, LEVEL_OK, "%zu namespace%s", count, count == 1 ? "" : "s");
	else
		found(finding, LEVEL_MISSING,
		      "no drive; files and other drives go through the kernel");
}

static void check_cores(struct finding *finding)
{
	int count = cores_usable();

	if (count > 1)
		found(finding, LEVEL_OK, "%d to run on", count);
	else
		found(finding, LEVEL_WARN,
		      "one only: server and client of a benchmark share it, figures mean little");
}

static const struct {
	const char *name;
	void (*check)(struct finding *finding);
} capabilities[] = {
	{"io_uring", check_uring},  {"huge pages", check_huge_pages},
	{"memlock", check_memlock}, {"CAP_NET_RAW", check_net_raw},
	{"TAP", check_tap},         {"CAP_BPF", check_bpf},
	{"AF_XDP", check_xdp},      {"DPDK", check_dpdk},
	{"RDMA", check_rdma},       {"NVMe", check_nvme},
	{"cores", check_cores},
};

/* ---- what is printed ---- */

struct output {
	struct report report;
	bool print;
};

static void show(struct output *output, const char *what, const char *interface,
		 const struct finding *finding)
{
	struct row *row = report_add(&output->report);

	row_text(row, "what", what);
	if (interface)
		row_text(row, "interface", interface);
	row_text(row, "name", finding->name);
	row_text(row, "level", level_names[finding->level]);
	row_text(row, "detail", finding->detail);
	row_text(row, "mend", finding->mend);
	if (output->print)
		printf("%-8s %-12s %s%s%s\n", level_names[finding->level], finding->name,
		       finding->detail, finding->mend[0] ? " -> " : "", finding->mend);
}

static void head(const struct output *output, const char *what, const char *name)
{
	if (output->print)
		printf("\n%s%s:\n", what, name);
}

static void show_capabilities(struct output *output)
{
	for (size_t i = 0; i < TOOL_COUNT(capabilities); i++) {
		struct finding finding = {0};

		tool_copy_text(finding.name, sizeof(finding.name), capabilities[i].name);
		capabilities[i].check(&finding);
		show(output, "capability", NULL, &finding);
	}
}

/* What kinds of devices need. */
static void show_needs(struct output *output)
{
	static const struct {
		const char *head;
		const char *what;
		void (*examine)(struct findings *findings);
	} kinds[] = {
		{"AF_XDP", "afxdp", examine_xdp},
		{"DPDK", "dpdk", examine_dpdk},
		{"RDMA", "rdma", examine_rdma},
	};

	for (size_t kind = 0; kind < TOOL_COUNT(kinds); kind++) {
		struct findings findings = {0};
		kinds[kind].examine(&findings);
		head(output, kinds[kind].head, "");
		for (size_t i = 0; i < findings.count; i++)
			show(output, kinds[kind].what, NULL, &findings.list[i]);
	}
}

/* named: by the user, for this examination; else by the configuration, or not at all. */
static void show_interface(struct output *output, const char *named)
{
	const char *name = named ? named : environment("DEMI_INTERFACE", NULL);
	struct findings findings = {0};

	if (!name)
		return;
	examine_interface(&findings, name, named != NULL);
	head(output, "interface ", name);
	for (size_t i = 0; i < findings.count; i++)
		show(output, "interface", name, &findings.list[i]);
}

/* Tries each library OS. Whether catnap runs. */
static bool show_library(struct output *output)
{
	struct libos_walk walk = {0};
	bool catnap_runs = false;

	head(output, "library OSes", "");
	while (libos_walk_next(&walk)) {
		const char *name = walk.backend->name;
		struct finding finding = {0};

		tool_copy_text(finding.name, sizeof(finding.name), name);
		if (walk.runs) {
			found(&finding, LEVEL_OK, "runs here");
			catnap_runs = catnap_runs || strcmp(name, "catnap") == 0;
		} else if (walk.apart) {
			found(&finding, LEVEL_OK,
			      "runs here, tried over TAP in a network namespace; as configured: %s",
			      walk.message);
		} else {
			found(&finding, LEVEL_MISSING, "%s", walk.message);
		}
		show(output, "libos", NULL, &finding);
	}
	return catnap_runs;
}

static int examine(const char *json, const char *interface)
{
	struct output output = {.print = !json || strcmp(json, "-") != 0};

	show_capabilities(&output);
	show_needs(&output);
	show_interface(&output, interface);
	int status = show_library(&output) ? TOOL_GOOD : TOOL_FAILED;
	if (json && report_write_json(&output.report, json) < 0)
		status = TOOL_FAILED;
	report_free(&output.report);
	return status;
}

int command_doctor(int argc, char **argv)
{
	const char *json = NULL;
	const char *interface = NULL;
	const struct option_spec specs[] = {
		{"interface", OPTION_TEXT, &interface, 0, 0, NULL, "NAME",
		 "examine this network interface for AF_XDP, by attaching a program and binding "
		 "a socket for a moment"},
		{"json", OPTION_TEXT, &json, 0, 0, NULL, "FILE",
		 "write the findings as JSON (-: standard output, nothing else)"},
	};
	int status = options_read(specs, TOOL_COUNT(specs), argc, argv, "demi doctor [OPTION...]");

	if (status != TOOL_GOOD)
		return status == OPTIONS_TOLD ? TOOL_GOOD : status;
	return examine(json, interface);
}
