/* State of the null GPU: settings, counters, failures on request, and device memory. */
#define _GNU_SOURCE
#include "null_gpu.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_DEVICES 8
#define GRANULE ((size_t)2 << 20)
#define SPACE ((size_t)4 << 40) /* address space of a device */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- settings, read from the environment ---- */

static double setting(const char *name, double otherwise) {
  const char *text = getenv(name);
  return text && *text ? atof(text) : otherwise;
}
int null_gpu_devices(void) { return (int)setting("NULL_GPU_DEVICES", 1); }
int null_gpu_capability(void) { return (int)setting("NULL_GPU_CAPABILITY", 90); }
size_t null_gpu_memory(void) { return (size_t)(setting("NULL_GPU_GIB", 80) * (1 << 30)); }

/* ---- counters ---- */

static long counters[NUM_COUNTERS];
typedef struct { const char *name; long count; } Named;
static Named *names; /* open addressing, by the address of the name */
static size_t capacity, filled;

static Named *find(Named *table, size_t size, const char *name) {
  size_t i = ((uintptr_t)name >> 3) * 0x9E3779B97F4A7C15ull % size;
  while (table[i].name && table[i].name != name) i = (i + 1) % size;
  return &table[i];
}
static void count_name(const char *name) {
  if (2 * filled >= capacity) {
    size_t larger = capacity ? 2 * capacity : 4096;
    Named *table = calloc(larger, sizeof *table);
    for (size_t i = 0; i < capacity; i++)
      if (names[i].name) *find(table, larger, names[i].name) = names[i];
    free(names);
    names = table, capacity = larger;
  }
  Named *entry = find(names, capacity, name);
  if (!entry->name) entry->name = name, filled++;
  entry->count++;
}
void null_gpu_count(int counter, long amount) { __sync_fetch_and_add(&counters[counter], amount); }

/* For Python, through ctypes. */
const long *null_gpu_counters(void) { return counters; }
void null_gpu_reset(void) {
  pthread_mutex_lock(&lock);
  memset(counters, 0, sizeof counters);
  for (size_t i = 0; i < capacity; i++) names[i].count = 0;
  pthread_mutex_unlock(&lock);
}
int null_gpu_write_names(const char *path) {
  FILE *file = fopen(path, "w");
  if (!file) return 1;
  for (size_t i = 0; i < capacity; i++)
    if (names[i].name && names[i].count) fprintf(file, "%ld\t%s\n", names[i].count, names[i].name);
  return fclose(file);
}

/* ---- failures on request ---- */

static int dead;
static long launches_left = -2; /* until the context dies; -1: never */
static char failing[64];        /* prefix of the library calls that fail */
static int failure;

void null_gpu_break(int is_broken) { dead = is_broken; }
void null_gpu_fail(const char *prefix, int status) {
  snprintf(failing, sizeof failing, "%s", prefix);
  failure = status;
}
int null_gpu_is_dead(void) { return dead; }

/* Ends the context after NULL_GPU_DIES_AFTER launches, in one process only if NULL_GPU_DIES_ONCE names a file. */
static void wear(void) {
  if (launches_left == -2) launches_left = (long)setting("NULL_GPU_DIES_AFTER", -1);
  if (launches_left < 0 || launches_left-- > 0) return;
  const char *once = getenv("NULL_GPU_DIES_ONCE");
  int file = once ? open(once, O_CREAT | O_EXCL | O_WRONLY, 0600) : -1;
  if (once && file < 0) return;
  if (file >= 0) close(file);
  dead = 1;
}
int null_gpu_launch(int counter, const char *name) {
  pthread_mutex_lock(&lock);
  wear();
  int is_dead = dead;
  if (null_gpu_is_capturing()) counters[GRAPH_NODES]++;
  else counters[counter]++, count_name(name);
  pthread_mutex_unlock(&lock);
  return is_dead ? 700 : 0;
}
int null_gpu_status(const char *name) { return *failing && !strncmp(name, failing, strlen(failing)) ? failure : 0; }
int null_gpu_library(const char *name) {
  int status = null_gpu_status(name);
  if (!status) null_gpu_launch(LIBRARY_CALLS, name);
  if (!status && !strncmp(name, "nccl", 4)) null_gpu_count(COLLECTIVES, 1);
  return status;
}

/* ---- memory ---- */

typedef struct Range { char *address; size_t size; struct Range *next; } Range;
static struct { char *base; size_t next, used; Range *unused; } devices[MAX_DEVICES];
int null_gpu_device_of(const void *address);

void *null_gpu_reserve(int device, size_t bytes) {
  if (device < 0 || device >= MAX_DEVICES) return NULL;
  pthread_mutex_lock(&lock);
  char *address = NULL;
  if (!devices[device].base) {
    char *base = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED) {
      devices[device].base = base;
      devices[device].next = -(uintptr_t)base % GRANULE;
    }
  }
  size_t size = (bytes + GRANULE - 1) / GRANULE * GRANULE;
  for (Range **at = &devices[device].unused; *at; at = &(*at)->next)
    if ((*at)->size == size) {
      Range *range = *at;
      address = range->address;
      *at = range->next;
      free(range);
      break;
    }
  if (!address && devices[device].base && devices[device].next + size <= SPACE) {
    address = devices[device].base + devices[device].next;
    devices[device].next += size;
  }
  pthread_mutex_unlock(&lock);
  return address;
}
int null_gpu_take(int device, size_t bytes) {
  pthread_mutex_lock(&lock);
  int fits = devices[device].used + bytes <= null_gpu_memory();
  if (fits) devices[device].used += bytes;
  pthread_mutex_unlock(&lock);
  return fits;
}
void null_gpu_give_back(int device, size_t bytes) {
  pthread_mutex_lock(&lock);
  devices[device].used -= bytes;
  pthread_mutex_unlock(&lock);
}
size_t null_gpu_used(int device) { return devices[device].used; }
void null_gpu_discard(void *address, size_t bytes) { madvise(address, bytes, MADV_DONTNEED); }
void null_gpu_free(void *address, size_t bytes) {
  int device = null_gpu_device_of(address);
  Range *range = malloc(sizeof *range);
  null_gpu_discard(address, bytes);
  pthread_mutex_lock(&lock);
  *range = (Range){address, (bytes + GRANULE - 1) / GRANULE * GRANULE, devices[device].unused};
  devices[device].unused = range;
  pthread_mutex_unlock(&lock);
}

/* Returns the device that an address belongs to, or -1 for memory of the host. */
int null_gpu_device_of(const void *address) {
  for (int i = 0; i < MAX_DEVICES; i++)
    if (devices[i].base && (char *)address >= devices[i].base && (char *)address < devices[i].base + SPACE) return i;
  return -1;
}
