// A library that is preloaded into the server (LD_PRELOAD). The library sets the wall clock of the server, fills the
// disk on which one folder is, and makes the files of this folder forget, in a power cut, the writes that were not
// synced.
//
// Before each change of a file, the library appends the bytes that the change replaces to the file's undo log. A sync
// of the file deletes the undo log. After the test has killed the server, the test applies the undo logs: see
// power_cut.rs. A kill between the undo record and the change does no harm, because the record then restores the bytes
// that are there.
//
// Two environment variables name folders by absolute paths without symbolic links. Both must be on one filesystem:
//   FAULTS_DISK   The folder with the database. Only the files in this folder are recorded.
//   FAULTS_STATE  The folder with the records of the library:
//     control       the switches of `struct control`, which the test changes while the server runs
//     undo/INODE    the undo log of a file
//     removed/INODE a removed file, until the folder is synced
//     names         the names of the files when the folder was last synced: a line with inode and name for each file
//
// The library replaces the functions with which SQLite reads and writes on Linux: pread, pwrite, ftruncate, fsync,
// fdatasync and unlink. If SQLite used other functions, the control run of the test would lose nothing and fail.
//
// The server reads the wall clock with clock_gettime, which the library replaces too.
//
// The library must not open and close a file of the database, because closing any descriptor of a file releases
// SQLite's locks. Inside the library, `syscall` replaces the calls that would lead back into the library.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// How long a sync takes. Without this time, a kill would rarely find a write that is not synced.
#define SYNC_MICROSECONDS 3000
#define NANOSECONDS 1000000000LL

// The switches. The test writes the file `control`, which the library maps. mod.rs has the same layout.
struct control {
    // If not 0, a sync does nothing.
    _Atomic int64_t ignores_sync;
    // Nanoseconds by which the wall clock of the server differs from that of the machine.
    _Atomic int64_t clock_offset;
    // 1: a write that makes a file longer fails with ENOSPC. 2: every write fails, as on a file system that never
    // writes in place.
    _Atomic int64_t fullness;
    // If not 0, every read of a file fails with EIO.
    _Atomic int64_t fails_reads;
};

// The header of an undo record. The replaced bytes follow: those of the range that lie before `size`.
struct record {
    // The changed range of the file.
    int64_t from, to;
    // The size of the file before the change.
    int64_t size;
    // The size of the file after the change. A change that makes the file shorter is a truncation.
    int64_t new_size;
};

static const char *disk, *state;
static struct control *control;
// Held from an undo record to the end of its change, so that no sync comes in between.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// Ends the server, because a test with incomplete records would prove nothing.
static void fail(const char *what)
{
    fprintf(stderr, "faults.c: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void)
{
    disk = getenv("FAULTS_DISK");
    state = getenv("FAULTS_STATE");
    if (!disk || !state)
        fail("FAULTS_DISK and FAULTS_STATE are not set");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/control", state);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    control = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || control == MAP_FAILED)
        fail(path);
    close(fd);
}

// Returns whether a name is the name of SQLite's -shm file. The file is memory that the connections share, and SQLite
// uses nothing of it after a power cut.
static int is_shared_memory(const char *name)
{
    size_t length = strlen(name);
    return length >= 4 && strcmp(name + length - 4, "-shm") == 0;
}

// Returns whether a path leads to the folder, or to a file in it that a power cut can change.
static int is_in_disk(const char *path)
{
    size_t length = strlen(disk);
    return strncmp(path, disk, length) == 0 && (path[length] == '/' || !path[length]) && !is_shared_memory(path);
}

// Returns whether an open file has a name in the folder, or is the folder. A file without a name ends with the process.
static int is_recorded(int fd)
{
    struct stat file;
    char link[64], path[PATH_MAX];
    if (fstat(fd, &file) || !(S_ISREG(file.st_mode) || S_ISDIR(file.st_mode)) || file.st_nlink == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return is_in_disk(path);
}

// Returns whether the disk has no space for a write up to `end`, and sets errno.
static int is_full(const struct stat *file, off_t end)
{
    if (control->fullness < 2 && (control->fullness < 1 || end <= file->st_size))
        return 0;
    errno = ENOSPC;
    return 1;
}

static void undo_log(char *path, ino_t inode)
{
    snprintf(path, PATH_MAX, "%s/undo/%ju", state, (uintmax_t)inode);
}

// Appends a record to the undo log of a file: the range from `from` to `to` is about to change, and then the file will
// have `new_size` bytes.
static void record(int fd, const struct stat *file, off_t from, off_t to, off_t new_size)
{
    struct record header = { from, to, file->st_size, new_size };
    off_t length = (to < file->st_size ? to : file->st_size) - from;
    length = length < 0 ? 0 : length;
    char *bytes = malloc(sizeof header + length);
    if (!bytes)
        fail("malloc");
    memcpy(bytes, &header, sizeof header);
    if (syscall(SYS_pread64, fd, bytes + sizeof header, length, from) != length)
        fail("read the bytes that a write replaces");
    char path[PATH_MAX];
    undo_log(path, file->st_ino);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || syscall(SYS_write, log, bytes, sizeof header + length) != (ssize_t)sizeof header + length)
        fail(path);
    close(log);
    free(bytes);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t offset)
{
    if (control->fails_reads && is_recorded(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (!is_recorded(fd))
        return syscall(SYS_pwrite64, fd, bytes, count, offset);
    pthread_mutex_lock(&mutex);
    struct stat file;
    fstat(fd, &file);
    off_t end = offset + count;
    ssize_t written = -1;
    if (!is_full(&file, end)) {
        record(fd, &file, offset, end, end > file.st_size ? end : file.st_size);
        written = syscall(SYS_pwrite64, fd, bytes, count, offset);
    }
    pthread_mutex_unlock(&mutex);
    return written;
}

int ftruncate(int fd, off_t size)
{
    if (!is_recorded(fd))
        return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&mutex);
    struct stat file;
    fstat(fd, &file);
    record(fd, &file, size, size < file.st_size ? file.st_size : size, size);
    int result = syscall(SYS_ftruncate, fd, size);
    pthread_mutex_unlock(&mutex);
    return result;
}

// Calls `visit` for each file of a folder.
static void for_each_file(const char *folder, void (*visit)(const char *name, ino_t inode, void *), void *with)
{
    DIR *open = opendir(folder);
    if (!open)
        fail(folder);
    for (struct dirent *entry; (entry = readdir(open));)
        if (entry->d_type == DT_REG)
            visit(entry->d_name, entry->d_ino, with);
    closedir(open);
}

static void write_name(const char *name, ino_t inode, void *names)
{
    if (!is_shared_memory(name))
        fprintf(names, "%ju %s\n", (uintmax_t)inode, name);
}

static void delete_removed(const char *name, ino_t inode, void *unused)
{
    (void)unused;
    char path[PATH_MAX];
    undo_log(path, inode);
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    snprintf(path, sizeof path, "%s/removed/%s", state, name);
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

// Makes the names in the folder durable, and the removal of files.
static void sync_names(void)
{
    char path[PATH_MAX], new_path[PATH_MAX];
    snprintf(path, sizeof path, "%s/names", state);
    snprintf(new_path, sizeof new_path, "%s/names.new", state);
    FILE *names = fopen(new_path, "we");
    if (!names)
        fail(new_path);
    for_each_file(disk, write_name, names);
    // Replace the file in one step, so that a kill leaves the old or the new names.
    if (fclose(names) || rename(new_path, path))
        fail(path);
    snprintf(path, sizeof path, "%s/removed", state);
    for_each_file(path, delete_removed, NULL);
}

int fsync(int fd)
{
    if (!is_recorded(fd))
        return syscall(SYS_fsync, fd);
    pthread_mutex_lock(&mutex);
    usleep(SYNC_MICROSECONDS);
    struct stat file;
    fstat(fd, &file);
    char path[PATH_MAX];
    undo_log(path, file.st_ino);
    if (control->ignores_sync)
        ;
    else if (S_ISDIR(file.st_mode))
        sync_names();
    else
        // No real sync follows, because the machine keeps its power.
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_unlock(&mutex);
    return 0;
}

// Moves a file away instead of removing it, because the file appears again if the power is cut before the folder is
// synced.
int unlink(const char *path)
{
    struct stat file;
    if (!is_in_disk(path) || stat(path, &file) || !S_ISREG(file.st_mode))
        return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    char removed[PATH_MAX];
    snprintf(removed, sizeof removed, "%s/removed/%ju", state, (uintmax_t)file.st_ino);
    pthread_mutex_lock(&mutex);
    int result = rename(path, removed);
    pthread_mutex_unlock(&mutex);
    return result;
}

// Returns the time of a clock. Only the wall clock can be set: the monotonic clock never jumps.
int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, clock, time);
    // The loader may ask for the time before `start` has run.
    if (result || !control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    int64_t nanoseconds = time->tv_sec * NANOSECONDS + time->tv_nsec + control->clock_offset;
    time->tv_sec = nanoseconds / NANOSECONDS;
    time->tv_nsec = nanoseconds % NANOSECONDS;
    return 0;
}

// The other names of the functions above.
ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) __attribute__((alias("pread")));
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) __attribute__((alias("pwrite")));
int ftruncate64(int fd, off64_t size) __attribute__((alias("ftruncate")));
int fdatasync(int fd) __attribute__((alias("fsync")));
