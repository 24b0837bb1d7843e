/* SPDX-License-Identifier: MIT
 * transport/shm/rendezvous.c - a leaf: it makes system calls.
 *
 * The lock is on an open file, so the kernel drops it with the last process that has it: a name
 * whose lock can be had is nobody's, whatever files are left of it.
 */
#include "transport/shm/rendezvous.h"

#include "sched/place.h"
#include "transport/shm/greeting.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_TRIES 8
#define GROUPS_MAX 64

static_assert(sizeof(((struct visitor *)0)->hello) == CHANNEL_HELLO_MAX, "what a greeting has");

/* Somebody who connected and has not said yet who it is. */
struct guest {
	struct rendezvous *rendezvous;
	struct fd_watch watch; /* fd -1: free */
	struct timer patience;
	struct ucred peer;
};

struct rendezvous {
	struct shm *shm;
	rendezvous_fn fn;
	void *arg;
	int lock_fd;
	struct fd_watch listener; /* fd -1: it rests */
	uint32_t busy;            /* in the middle of something: it may not be freed */
	bool closing;
	struct guest guests[RENDEZVOUS_VISITORS];
	char lock_path[128];
	struct sockaddr_un address;
};

/* ---- names ---- */

static bool good_name(const char *name)
{
	size_t length = strnlen(name, RENDEZVOUS_NAME_MAX + 1);

	if (length == 0 || length > RENDEZVOUS_NAME_MAX || *name == '.')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("._-:[]%", name[i]))
			return false;
	}
	return true;
}

static bool find_directory(const struct shm *shm, char *out, size_t room)
{
	const char *given = shm->sched->config.shm_directory;

	if (!*given)
		return place_directory(out, room);
	int n = snprintf(out, room, "%s", given);
	return n > 0 && (size_t)n < room && place_is_safe(out);
}

/* The paths of a name.  0 or -errno. */
static int find_place(const struct shm *shm, const struct rendezvous_place *place,
		      struct sockaddr_un *address, char *lock_path, size_t room)
{
	char directory[sizeof(address->sun_path)];

	if (!good_name(place->name))
		return -EINVAL;
	if (!find_directory(shm, directory, sizeof(directory)))
		return -EACCES;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s%s.sock", directory,
			 place->prefix, place->name);
	int m = snprintf(lock_path, room, "%s/%s%s.lock", directory, place->prefix, place->name);
	return n > 0 && (size_t)n < sizeof(address->sun_path) && m > 0 && (size_t)m < room
		       ? 0
		       : -ENAMETOOLONG;
}

/* ---- locks ---- */

/* Is the file that we have open still the one of that name? */
static bool still_there(int fd, const char *path)
{
	struct stat mine;
	struct stat there;

	return fstat(fd, &mine) == 0 && lstat(path, &there) == 0 && mine.st_ino == there.st_ino &&
	       mine.st_dev == there.st_dev;
}

/* Members of the group may see whether the name is in use. */
static int open_lock(const struct shm *shm, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	if (shm->has_group && (fchown(fd, (uid_t)-1, shm->group) || fchmod(fd, 0640))) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* The lock of a name: its descriptor, -EEXIST: somebody has it; or -errno. */
static int take_lock(const struct shm *shm, const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	for (int i = 0; i < LOCK_TRIES; i++) {
		int fd = open_lock(shm, path);
		if (fd < 0)
			return fd;
		if (fcntl(fd, F_OFD_SETLK, &lock)) {
			close(fd);
			return -EEXIST;
		}
		if (still_there(fd, path) && ftruncate(fd, 0) == 0)
			return fd;
		close(fd); /* its last owner has just removed it */
	}
	return -EEXIST;
}

/* Has somebody the lock who takes no more visitors (and so has written a byte)?  One that is just
 * about to listen has none yet. */
static bool is_busy(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return false;
	bool busy = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK &&
		    fstat(fd, &status) == 0 && status.st_size > 0;
	close(fd);
	return busy;
}

/* ---- credentials ---- */

static bool has_group(int fd, gid_t group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t length = sizeof(groups);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length))
		return false;
	for (size_t i = 0; i < length / sizeof(gid_t); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

/* Who is on the other side; false: nobody that we talk to. */
static bool is_welcome(const struct shm *shm, int fd, struct ucred *peer)
{
	socklen_t length = sizeof(*peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length))
		return false;
	if (peer->uid == getuid() || peer->uid == 0)
		return true;
	return shm->has_group && (peer->gid == shm->group || has_group(fd, shm->group));
}

/* ---- guests ---- */

static struct sched *sched_of(const struct rendezvous *rendezvous)
{
	return rendezvous->shm->sched;
}

/* It is not a guest any more; its socket stays open. */
static int guest_forget(struct guest *guest)
{
	struct rendezvous *rendezvous = guest->rendezvous;
	struct fdset *fds = &sched_of(rendezvous)->fds;
	int fd = guest->watch.fd;

	fdset_remove(fds, &guest->watch);
	timer_cancel(&sched_of(rendezvous)->timers, &guest->patience);
	guest->watch.fd = -1;
	if (rendezvous->listener.fd >= 0 && !rendezvous->listener.watched)
		(void)fdset_add(fds, &rendezvous->listener, EPOLLIN);
	return fd;
}

static void guest_refuse(struct guest *guest, int err)
{
	int fd = guest_forget(guest);

	greeting_refuse(fd, err);
	close(fd);
}

static void rendezvous_free(struct rendezvous *rendezvous)
{
	rendezvous_rest(rendezvous);
	unlink(rendezvous->lock_path);
	close(rendezvous->lock_fd);
	free(rendezvous);
}

static void leave(struct rendezvous *rendezvous)
{
	if (--rendezvous->busy == 0 && rendezvous->closing)
		rendezvous_free(rendezvous);
}

/* Presents a guest who has said who it is. */
static void present(struct guest *guest, const struct greeting *greeting, int memory_fd,
		    int heap_fd)
{
	struct rendezvous *rendezvous = guest->rendezvous;
	struct visitor visitor = {
		.fd = guest_forget(guest),
		.memory_fd = memory_fd,
		.heap_fd = heap_fd,
		.heap_bytes = greeting->heap_bytes,
		.barrier = greeting->barrier != 0,
		.peer = guest->peer,
		.hello_bytes = greeting->hello_bytes,
	};

	memcpy(visitor.hello, greeting->hello, sizeof(visitor.hello));
	rendezvous->busy++;
	int err = rendezvous->fn(rendezvous, rendezvous->arg, &visitor);
	if (err) {
		greeting_refuse(visitor.fd, err);
		close(visitor.fd);
		close(visitor.memory_fd);
		if (visitor.heap_fd >= 0)
			close(visitor.heap_fd);
	}
	leave(rendezvous);
}

static void guest_event(struct fd_watch *watch, uint32_t events)
{
	struct guest *guest = container_of(watch, struct guest, watch);
	struct greeting greeting;
	int memory_fd;
	int heap_fd;

	(void)events;
	int err = greeting_receive(watch->fd, &greeting, &memory_fd, &heap_fd);
	if (err == -EAGAIN)
		return;
	if (err)
		guest_refuse(guest, err);
	else
		present(guest, &greeting, memory_fd, heap_fd);
}

static void guest_patience_ends(struct timer *timer)
{
	guest_refuse(container_of(timer, struct guest, patience), ETIMEDOUT);
}

static struct guest *free_guest(struct rendezvous *rendezvous)
{
	for (uint32_t i = 0; i < RENDEZVOUS_VISITORS; i++) {
		if (rendezvous->guests[i].watch.fd < 0)
			return &rendezvous->guests[i];
	}
	return NULL;
}

static void listener_event(struct fd_watch *watch, uint32_t events)
{
	struct rendezvous *rendezvous = container_of(watch, struct rendezvous, listener);
	struct guest *guest = free_guest(rendezvous);

	(void)events;
	if (!guest) { /* it waits until another has gone */
		fdset_remove(&sched_of(rendezvous)->fds, watch);
		return;
	}
	int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	guest->watch = (struct fd_watch){.fd = fd, .fn = guest_event};
	if (!is_welcome(rendezvous->shm, fd, &guest->peer) ||
	    fdset_add(&sched_of(rendezvous)->fds, &guest->watch, EPOLLIN)) {
		guest_refuse(guest, EACCES);
		return;
	}
	timer_arm(&sched_of(rendezvous)->timers, &guest->patience,
		  sched_now(sched_of(rendezvous)) + CHANNEL_PATIENCE_NS);
}

/* ---- listening ---- */

/* The socket is for its user alone, or for the group too; before anybody can find it. */
static int bind_private(const struct rendezvous *rendezvous, int fd)
{
	const struct shm *shm = rendezvous->shm;
	const char *path = rendezvous->address.sun_path;

	unlink(path); /* of one that died: the lock is ours */
	if (fchmod(fd, 0600) ||
	    bind(fd, (const struct sockaddr *)&rendezvous->address, sizeof(rendezvous->address)))
		return -errno;
	if (shm->has_group && (lchown(path, (uid_t)-1, shm->group) || chmod(path, 0660)))
		return -errno;
	return 0;
}

static int start_listening(struct rendezvous *rendezvous, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	int err = bind_private(rendezvous, fd);
	if (!err && listen(fd, backlog))
		err = -errno;
	rendezvous->listener = (struct fd_watch){.fd = fd, .fn = listener_event};
	if (!err)
		err = fdset_add(&sched_of(rendezvous)->fds, &rendezvous->listener, EPOLLIN);
	return err;
}

static struct rendezvous *rendezvous_new(struct shm *shm, rendezvous_fn fn, void *arg)
{
	struct rendezvous *rendezvous = calloc(1, sizeof(*rendezvous));

	if (!rendezvous)
		return NULL;
	rendezvous->shm = shm;
	rendezvous->fn = fn;
	rendezvous->arg = arg;
	rendezvous->listener.fd = -1;
	for (uint32_t i = 0; i < RENDEZVOUS_VISITORS; i++) {
		struct guest *guest = &rendezvous->guests[i];
		guest->rendezvous = rendezvous;
		guest->watch.fd = -1;
		timer_init(&guest->patience, guest_patience_ends);
	}
	return rendezvous;
}

int rendezvous_listen(struct shm *shm, const struct rendezvous_place *place, int backlog,
		      rendezvous_fn fn, void *arg, struct rendezvous **rendezvous_out)
{
	struct rendezvous *rendezvous = rendezvous_new(shm, fn, arg);

	if (!rendezvous)
		return -ENOMEM;
	int err = find_place(shm, place, &rendezvous->address, rendezvous->lock_path,
			     sizeof(rendezvous->lock_path));
	if (!err) {
		rendezvous->lock_fd = take_lock(shm, rendezvous->lock_path);
		err = rendezvous->lock_fd < 0 ? rendezvous->lock_fd : 0;
	}
	if (err) {
		free(rendezvous);
		return err;
	}
	err = start_listening(rendezvous, backlog);
	if (err) {
		rendezvous_free(rendezvous);
		return err;
	}
	*rendezvous_out = rendezvous;
	return 0;
}

void rendezvous_rest(struct rendezvous *rendezvous)
{
	int fd = rendezvous->listener.fd;

	if (fd < 0)
		return;
	(void)!write(rendezvous->lock_fd, "", 1); /* see is_busy */
	fdset_remove(&sched_of(rendezvous)->fds, &rendezvous->listener);
	rendezvous->listener.fd = -1;
	unlink(rendezvous->address.sun_path);
	close(fd);
	for (uint32_t i = 0; i < RENDEZVOUS_VISITORS; i++) {
		if (rendezvous->guests[i].watch.fd >= 0)
			guest_refuse(&rendezvous->guests[i], EBUSY);
	}
}

void rendezvous_close(struct rendezvous *rendezvous)
{
	rendezvous->closing = true;
	rendezvous->busy++;
	rendezvous_rest(rendezvous);
	leave(rendezvous);
}

/* ---- connecting ---- */

/* 0, or what it means that nobody took the call. */
static int call(int fd, const struct sockaddr_un *address, const char *lock_path)
{
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return 0;
	switch (errno) {
	case EAGAIN:
		return -EBUSY;
	case ENOENT:
	case ECONNREFUSED:
		return is_busy(lock_path) ? -EBUSY : -ENOENT;
	default:
		return -errno;
	}
}

int rendezvous_connect(struct shm *shm, const struct rendezvous_place *place, int *fd_out)
{
	struct sockaddr_un address;
	struct ucred peer;
	char lock_path[128];
	int err = find_place(shm, place, &address, lock_path, sizeof(lock_path));

	if (err)
		return err;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = call(fd, &address, lock_path);
	if (!err && !is_welcome(shm, fd, &peer))
		err = -EACCES;
	if (err) {
		close(fd);
		return err;
	}
	*fd_out = fd;
	return 0;
}
