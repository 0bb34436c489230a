/* Shared by the parts of the null GPU: counters, failures on request, and device memory. */
#ifndef NULL_GPU_H
#define NULL_GPU_H
#include <stddef.h>

/* The order is that of COUNTERS in counters.py. */
enum {
  KERNELS, LIBRARY_CALLS, JIT_KERNELS, MEMSETS,
  SYNCS, /* waits of the host: for a stream, a device or an event, and blocking copies */
  TO_DEVICE, TO_HOST, ON_DEVICE, TO_DEVICE_BYTES, TO_HOST_BYTES,
  ALLOCATIONS, GRAPH_LAUNCHES, GRAPH_NODES /* of the last capture */, REFUSED_IN_CAPTURE, COLLECTIVES,
  NUM_COUNTERS
};

void null_gpu_count(int counter, long amount);
/* Counts a launch under its name; returns cudaErrorIllegalAddress (700) after the context has died, else 0. */
int null_gpu_launch(int counter, const char *name);
/* Returns the status that null_gpu_fail asked for, else 0. */
int null_gpu_status(const char *name);
/* Counts a call of cuBLAS, cuDNN or NCCL that computes, and returns its status. */
int null_gpu_library(const char *name);
int null_gpu_is_dead(void);
int null_gpu_is_capturing(void);

int null_gpu_devices(void);
int null_gpu_capability(void); /* 90 for sm_90 */
size_t null_gpu_memory(void);  /* bytes of one device */
size_t null_gpu_used(int device);

/* Address space of a device, without memory; the address is a multiple of 2 MiB. */
void *null_gpu_reserve(int device, size_t bytes);
/* Accounts memory of a device. Returns 0 if the device is full. */
int null_gpu_take(int device, size_t bytes);
void null_gpu_give_back(int device, size_t bytes);
void null_gpu_discard(void *address, size_t bytes); /* its pages read as zero again */
void null_gpu_free(void *address, size_t bytes);    /* a whole reserved range, for later reservations of its size */
#endif
