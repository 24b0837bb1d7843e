/* SPDX-License-Identifier: MIT */
#include "netdev/afxdp/attach.h"

#include "netdev/afxdp/program.h" /* made from program.bpf.c */
#include "netdev/interface.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xdp/libxdp.h>

/* What an attempt to attach works on. */
struct attempt {
	const struct log *log;
	const struct steer_options *options;
	struct attach *attach;
	bool dispatch; /* try the dispatcher first */
};

static const char *mode_name(bool native)
{
	return native ? "native" : "generic";
}

/* ---- what is told ---- */

static void tell_refused(const struct attempt *try, const char *what, int err)
{
	const char *name = try->options->interface;

	if (err == -EPERM)
		log_write(try->log, LOG_LEVEL_ERROR,
			  "%s: %s: %s: needs the capabilities CAP_BPF and CAP_NET_ADMIN: run as "
			  "root, or let `demi xdp-helper` do it",
			  name, what, strerror(-err));
	else if (err == -EACCES)
		log_write(try->log, LOG_LEVEL_ERROR,
			  "%s: %s: this kernel's verifier refuses it: needs the capability "
			  "CAP_PERFMON too: run as root, or let `demi xdp-helper` do it",
			  name, what);
	else
		log_write(try->log, LOG_LEVEL_ERROR, "%s: %s: %s", name, what, strerror(-err));
}

/* The program that the interface has, and its mode.  False: it is not known. */
static bool query(int index, char name[BPF_OBJ_NAME_LEN], bool *native)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, found);
	struct bpf_prog_info info = {0};
	uint32_t length = sizeof(info);

	if (bpf_xdp_query(index, 0, &found) || !found.prog_id)
		return false;
	*native = found.attach_mode == XDP_ATTACHED_DRV;
	int fd = bpf_prog_get_fd_by_id(found.prog_id);
	if (fd < 0)
		return false;
	int err = bpf_obj_get_info_by_fd(fd, &info, &length);
	close(fd);
	(void)snprintf(name, BPF_OBJ_NAME_LEN, "%s", info.name);
	return err == 0;
}

static void tell_busy(const struct attempt *try)
{
	const char *interface = try->options->interface;
	char name[BPF_OBJ_NAME_LEN] = "?";
	bool native = false;
	char mend[160];

	(void)query(try->options->index, name, &native);
	if (strcmp(name, ATTACH_PROGRAM) == 0)
		(void)snprintf(mend, sizeof(mend),
			       "another process of ours; to share the interface both need a bpffs: "
			       "mount -t bpf bpf /sys/fs/bpf");
	else if (strcmp(name, "xdp_dispatcher") == 0)
		(void)snprintf(mend, sizeof(mend),
			       "libxdp's dispatcher, which is %s: configure neither another mode "
			       "nor to attach alone, and mount its bpffs",
			       mode_name(native));
	else
		(void)snprintf(mend, sizeof(mend),
			       "not through libxdp's dispatcher: end its process, or: ip link set "
			       "dev %s %s off",
			       interface, native ? "xdpdrv" : "xdpgeneric");
	log_write(
		try->log, LOG_LEVEL_ERROR,
		"%s: has the XDP program %s already (`bpftool net show dev %s`, `ip link show dev "
		"%s`): %s",
		interface, name, interface, interface, mend);
}

/* ---- alone ---- */

struct bpf_object *attach_object(void)
{
	return bpf_object__open_mem(program_bytes, sizeof(program_bytes), NULL);
}

/* A link ends with the last descriptor for it, so with its process. */
static int link_open(struct attach *attach, bool native)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts,
		    .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);

	attach->object = attach_object();
	if (!attach->object)
		return -errno;
	int err = bpf_object__load(attach->object);
	if (!err) {
		struct bpf_program *program = bpf_object__next_program(attach->object, NULL);
		attach->link =
			bpf_link_create(bpf_program__fd(program), attach->index, BPF_XDP, &opts);
		err = attach->link < 0 ? attach->link : 0;
	}
	if (err) {
		bpf_object__close(attach->object);
		attach->object = NULL;
	}
	attach->native = native;
	return err;
}

/* ---- both ---- */

static bool is_busy(int err)
{
	return err == -EBUSY || err == -EEXIST;
}

/* 0, -EOPNOTSUPP: it has no such mode, or -errno, told. */
static int try_mode(struct attempt *try, bool native)
{
	int refused = try->dispatch ? dispatch_attach(try->attach, native) : -EOPNOTSUPP;
	int err = refused && !is_busy(refused) ? link_open(try->attach, native) : refused;
	char what[40];

	if (is_busy(err)) {
		tell_busy(try);
		return -EBUSY;
	}
	if (err && err != -EOPNOTSUPP) {
		(void)snprintf(what, sizeof(what), "XDP program in %s mode", mode_name(native));
		tell_refused(try, what, err);
	}
	if (!err && refused && try->dispatch)
		log_write(try->log, LOG_LEVEL_WARNING,
			  "%s: libxdp's dispatcher: %s: the XDP program is attached alone, and no "
			  "other can be beside it",
			  try->options->interface, strerror(-refused));
	return err;
}

static void tell_mode(const struct attempt *try, const char *why)
{
	log_write(try->log, LOG_LEVEL_INFO, "%s: XDP program attached in %s mode (%s), %s",
		  try->options->interface, mode_name(try->attach->native), why,
		  try->attach->program ? "by libxdp's dispatcher" : "alone");
}

static int open_native(struct attempt *try)
{
	int err = try_mode(try, true);

	if (!err)
		tell_mode(try, "configured");
	else if (err == -EOPNOTSUPP)
		log_write(try->log, LOG_LEVEL_ERROR,
			  "%s: its driver has no native XDP, or not as it is set up (`ethtool -i "
			  "%s` names it): configure the generic mode",
			  try->options->interface, try->options->interface);
	return err;
}

static int open_generic(struct attempt *try, const char *why)
{
	int err = try_mode(try, false);

	if (!err)
		tell_mode(try, why);
	else if (err == -EOPNOTSUPP)
		tell_refused(try, "XDP program in generic mode", err);
	return err;
}

static int open_auto(struct attempt *try)
{
	enum dispatch_mode others =
		try->dispatch ? dispatch_mode_of(try->options->index) : DISPATCH_NONE;

	if (others == DISPATCH_GENERIC)
		return open_generic(try, "that of the other programs");
	if (others == DISPATCH_NONE && interface_is_veth(try->options->interface))
		return open_generic(try, "faster than native on veth");
	int err = try_mode(try, true);
	if (!err)
		tell_mode(try, "the driver has it");
	if (err != -EOPNOTSUPP)
		return err;
	log_write(try->log, LOG_LEVEL_WARNING,
		  "%s: its driver has no native XDP: generic mode, which is slower",
		  try->options->interface);
	return open_generic(try, "the driver has no other");
}

static int open_mode(struct attempt *try)
{
	if (try->options->mode == STEER_NATIVE)
		return open_native(try);
	if (try->options->mode == STEER_GENERIC)
		return open_generic(try, "configured");
	return open_auto(try);
}

/* Without it libxdp can neither see other programs nor take away what it attached. */
static bool has_sys_admin(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &header, data) == 0 &&
	       (data[0].effective & (1U << CAP_SYS_ADMIN));
}

/* Is the dispatcher to be tried? */
static bool want_dispatcher(const struct attempt *try)
{
	const char *interface = try->options->interface;
	bool is_there;
	const char *place = dispatch_place(&is_there);

	if (try->options->alone)
		return false;
	if (!is_there) {
		log_write(try->log, LOG_LEVEL_WARNING,
			  "%s: no bpffs at %s: the XDP program is attached alone, and no other can "
			  "be beside it (mount -t bpf bpf %s)",
			  interface, place, place);
		return false;
	}
	if (!has_sys_admin()) {
		log_write(
			try->log, LOG_LEVEL_WARNING,
			"%s: libxdp's dispatcher needs CAP_SYS_ADMIN: the XDP program is attached "
			"alone, and no other can be beside it",
			interface);
		return false;
	}
	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, NULL) == 0) {
		log_write(try->log, LOG_LEVEL_WARNING,
			  "%s: this kernel refuses BPF_PROG_TYPE_EXT, which libxdp's dispatcher "
			  "needs: the XDP program is attached alone, and no other can be beside it",
			  interface);
		return false;
	}
	uint32_t cleaned = dispatch_clean(try->options->index);
	if (cleaned > 0)
		log_write(try->log, LOG_LEVEL_INFO,
			  "%s: took away %u XDP programs that killed processes left", interface,
			  cleaned);
	return true;
}

/* Both libraries print to stderr what they try, by printers of the whole process: silenced while we
 * use them.  What fails is told to the log by us. */
struct printers {
	libbpf_print_fn_t bpf;
	libxdp_print_fn_t xdp;
};

static struct printers silence(void)
{
	return (struct printers){.bpf = libbpf_set_print(NULL), .xdp = libxdp_set_print(NULL)};
}

static void restore(struct printers printers)
{
	libbpf_set_print(printers.bpf);
	libxdp_set_print(printers.xdp);
}

int attach_open(const struct log *log, const struct steer_options *options, struct attach *attach)
{
	struct attempt try = {.log = log, .options = options, .attach = attach};
	struct printers printers = silence();

	*attach = (struct attach){.link = -1, .owner = -1, .index = options->index};
	try.dispatch = want_dispatcher(&try);
	int err = open_mode(&try);
	restore(printers);
	return err;
}

static void link_close(struct attach *attach)
{
	close(attach->link);
	bpf_object__close(attach->object);
}

void attach_close(struct attach *attach)
{
	struct printers printers = silence();

	if (attach->program)
		dispatch_detach(attach);
	else
		link_close(attach);
	restore(printers);
}
