/* The CUDA runtime: launches are counted, memory is host memory that kernels leave unchanged. */
#define _GNU_SOURCE
#include "null_gpu.h"
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#undef cudaGetDeviceProperties

int null_gpu_device_of(const void *address);

#define LARGE ((size_t)1 << 20) /* larger blocks are neither filled nor copied within the device */

static __thread int device;
static __thread cudaError_t last;

static cudaError_t fail(cudaError_t error) { return error ? (last = error) : cudaSuccess; }
static cudaError_t alive(void) { return null_gpu_is_dead() ? fail(cudaErrorIllegalAddress) : cudaSuccess; }

/* ---- kernels: registered by the libraries at load time ---- */

typedef struct { const void *stub; const char *name; } Kernel;
static Kernel *kernels;
static size_t capacity, filled;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Kernel *find(Kernel *table, size_t size, const void *stub) {
  size_t i = ((uintptr_t)stub >> 4) * 0x9E3779B97F4A7C15ull % size;
  while (table[i].stub && table[i].stub != stub) i = (i + 1) % size;
  return &table[i];
}
void __cudaRegisterFunction(void **fat, const char *stub, char *device_stub, const char *name, int limit, void *a,
                            void *b, void *c, void *d, int *e) {
  pthread_mutex_lock(&lock);
  if (2 * filled >= capacity) {
    size_t larger = capacity ? 2 * capacity : 1 << 17;
    Kernel *table = calloc(larger, sizeof *table);
    for (size_t i = 0; i < capacity; i++)
      if (kernels[i].stub) *find(table, larger, kernels[i].stub) = kernels[i];
    free(kernels);
    kernels = table, capacity = larger;
  }
  Kernel *entry = find(kernels, capacity, stub);
  if (!entry->stub) filled++;
  *entry = (Kernel){stub, name};
  pthread_mutex_unlock(&lock);
}
void **__cudaRegisterFatBinary(void *image) {
  static void *handle[8];
  return handle;
}
void __cudaRegisterFatBinaryEnd(void **fat) {}
void __cudaUnregisterFatBinary(void **fat) {}
char __cudaInitModule(void **fat) { return 1; }
void __cudaRegisterVar(void **fat, char *stub, char *address, const char *name, int ext, size_t size, int a, int b) {}

static cudaError_t launch(const void *stub) {
  Kernel *entry = capacity ? find(kernels, capacity, stub) : NULL;
  return fail(null_gpu_launch(KERNELS, entry && entry->name ? entry->name : "unnamed kernel"));
}

/* `kernel<<<grid, block, bytes, stream>>>` pushes its configuration, and its stub pops it. */
typedef struct { dim3 grid, block; size_t bytes; void *stream; } Configuration;
static __thread Configuration pending[8];
static __thread int depth;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t bytes, void *stream) {
  pending[depth++] = (Configuration){grid, block, bytes, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *bytes, void *stream) {
  Configuration popped = pending[--depth];
  *grid = popped.grid, *block = popped.block, *bytes = popped.bytes, *(void **)stream = popped.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub) {
  *kernel = (cudaKernel_t)stub;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t bytes,
                               cudaStream_t stream) {
  return launch(kernel);
}
cudaError_t cudaLaunchKernel(const void *stub, dim3 grid, dim3 block, void **arguments, size_t bytes,
                             cudaStream_t stream) {
  return launch(stub);
}
cudaError_t cudaLaunchCooperativeKernel(const void *stub, dim3 grid, dim3 block, void **arguments, size_t bytes,
                                        cudaStream_t stream) {
  return launch(stub);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *stub, void **arguments) {
  return launch(stub);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  function(data);
  return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void *data, unsigned flags) {
  function(stream, cudaSuccess, data);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *stub) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024, found->numRegs = 32, found->maxDynamicSharedSizeBytes = 232448;
  found->ptxVersion = found->binaryVersion = null_gpu_capability();
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *stub, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *stub, int size, size_t bytes) {
  *blocks = 4;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *stub, int size,
                                                                   size_t bytes, unsigned flags) {
  *blocks = 4;
  return cudaSuccess;
}

/* ---- devices: an H100's properties ---- */

enum { MULTIPROCESSORS = 132, REGISTERS = 65536, SHARED = 49152, SHARED_OPTIN = 232448, SHARED_ALL = 233472 };

cudaError_t cudaGetDeviceCount(int *count) {
  *count = null_gpu_devices();
  return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int *found) {
  *found = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int wanted) {
  if (wanted < 0 || wanted >= null_gpu_devices()) return fail(cudaErrorInvalidDevice);
  device = wanted;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int index) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "Null GPU");
  found->major = null_gpu_capability() / 10, found->minor = null_gpu_capability() % 10;
  found->totalGlobalMem = null_gpu_memory();
  found->multiProcessorCount = MULTIPROCESSORS, found->warpSize = 32;
  found->maxThreadsPerBlock = 1024, found->maxThreadsPerMultiProcessor = 2048, found->maxBlocksPerMultiProcessor = 32;
  found->sharedMemPerBlock = SHARED, found->sharedMemPerBlockOptin = SHARED_OPTIN;
  found->sharedMemPerMultiprocessor = SHARED_ALL;
  found->regsPerBlock = found->regsPerMultiprocessor = REGISTERS;
  found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024, found->maxThreadsDim[2] = 64;
  found->maxGridSize[0] = INT32_MAX, found->maxGridSize[1] = found->maxGridSize[2] = 65535;
  found->l2CacheSize = 50 << 20, found->memoryBusWidth = 5120, found->textureAlignment = 512;
  found->unifiedAddressing = found->concurrentKernels = found->cooperativeLaunch = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index) {
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor: *value = null_gpu_capability() / 10; break;
  case cudaDevAttrComputeCapabilityMinor: *value = null_gpu_capability() % 10; break;
  case cudaDevAttrMultiProcessorCount: *value = MULTIPROCESSORS; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
  case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
  case cudaDevAttrWarpSize: *value = 32; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_OPTIN; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SHARED_ALL; break;
  case cudaDevAttrMaxRegistersPerBlock:
  case cudaDevAttrMaxRegistersPerMultiprocessor: *value = REGISTERS; break;
  default: *value = 1;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int from, int to) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int index) {
  snprintf(text, size, "0000:00:%02x.0", index + 1);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaProfilerStart(void) { return cudaSuccess; }
cudaError_t cudaProfilerStop(void) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) {
  cudaError_t error = last;
  last = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError(void) { return last; }
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaErrorMemoryAllocation: return "out of memory";
  case cudaErrorInvalidDevice: return "invalid device ordinal";
  case cudaErrorNoDevice: return "no CUDA-capable device is detected";
  case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
  case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
  default: return "an error of the null GPU";
  }
}
const char *cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorOfTheNullGpu";
}
static int not_supported(void) { return cudaErrorNotSupported; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
  static void *driver;
  if (!driver) driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  *function = driver ? dlsym(driver, name) : NULL;
  if (!*function) *function = (void *)not_supported;
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

/* ---- memory ---- */

typedef struct Block { void *address; size_t bytes; int device; struct Block *next; } Block;
static Block *blocks;

cudaError_t cudaMalloc(void **address, size_t bytes) {
  if (alive()) return last;
  if (!null_gpu_take(device, bytes)) return fail(cudaErrorMemoryAllocation);
  *address = null_gpu_reserve(device, bytes ? bytes : 1);
  Block *block = malloc(sizeof *block);
  pthread_mutex_lock(&lock);
  *block = (Block){*address, bytes, device, blocks};
  blocks = block;
  pthread_mutex_unlock(&lock);
  null_gpu_count(ALLOCATIONS, 1);
  return cudaSuccess;
}
cudaError_t cudaFree(void *address) {
  if (alive()) return last;
  pthread_mutex_lock(&lock);
  for (Block **at = &blocks; *at; at = &(*at)->next)
    if ((*at)->address == address) {
      Block *block = *at;
      *at = block->next;
      null_gpu_free(block->address, block->bytes ? block->bytes : 1);
      null_gpu_give_back(block->device, block->bytes);
      free(block);
      break;
    }
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t stream) { return cudaMalloc(address, bytes); }
cudaError_t cudaFreeAsync(void *address, cudaStream_t stream) { return cudaFree(address); }
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
  return posix_memalign(address, 4096, bytes ? bytes : 1) ? fail(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaFreeHost(void *address) {
  free(address);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void *address) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  *total = null_gpu_memory(), *available = *total - null_gpu_used(device);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *address) {
  int owner = null_gpu_device_of(address);
  memset(found, 0, sizeof *found);
  found->type = owner < 0 ? cudaMemoryTypeUnregistered : cudaMemoryTypeDevice;
  found->device = owner < 0 ? 0 : owner, found->devicePointer = (void *)address;
  return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) {
  static char block[1 << 20];
  *address = block;
  return cudaSuccess;
}
static cudaError_t copy(void *to, const void *from, size_t bytes) {
  if (alive()) return last;
  int writes = null_gpu_device_of(to) >= 0, reads = null_gpu_device_of(from) >= 0;
  if (null_gpu_is_capturing()) {
    null_gpu_count(GRAPH_NODES, 1);
  } else {
    null_gpu_count(writes && reads ? ON_DEVICE : writes ? TO_DEVICE : TO_HOST, 1);
    if (writes != reads) null_gpu_count(writes ? TO_DEVICE_BYTES : TO_HOST_BYTES, (long)bytes);
  }
  if (!(writes && reads && bytes > LARGE)) memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(to, from, bytes);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  null_gpu_count(SYNCS, 1);
  return copy(to, from, bytes);
}
cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t stream) {
  return copy(to, from, bytes);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
  for (size_t row = 1; row < height; row++)
    memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
  return copy(to, from, width);
}
cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                               enum cudaMemcpyKind kind) {
  return cudaSuccess;
}
static cudaError_t fill(void *address, int value, size_t bytes) {
  if (bytes <= LARGE) memset(address, value, bytes);
  return fail(null_gpu_launch(MEMSETS, "memset"));
}
cudaError_t cudaMemset(void *address, int value, size_t bytes) { return fill(address, value, bytes); }
cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
  return fill(address, value, bytes);
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int index) {
  *pool = (cudaMemPool_t)1;
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  *(uint64_t *)value = 0;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const struct cudaMemAccessDesc *access, size_t count) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) { return cudaSuccess; }

/* ---- streams, events, graphs ---- */

static uintptr_t next_handle = 0x1000;
static int capturing;
int null_gpu_is_capturing(void) { return capturing; }

static void *handle(void) { return (void *)__sync_add_and_fetch(&next_handle, 16); }

/* A wait of the host: forbidden while a graph is captured, and the place where an asynchronous error surfaces. */
static cudaError_t synchronize(void) {
  null_gpu_count(SYNCS, 1);
  if (alive()) return last;
  if (!capturing) return cudaSuccess;
  null_gpu_count(REFUSED_IN_CAPTURE, 1);
  return fail(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaDeviceSynchronize(void) { return synchronize(); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return synchronize(); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return synchronize(); }
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = handle();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  *stream = handle();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
  *priority = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) { return cudaSuccess; }
static enum cudaStreamCaptureStatus status(void) {
  return capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *found) {
  *found = status();
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *found, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                                     size_t *count) {
  *found = status();
  if (id) *id = 1;
  if (graph) *graph = (cudaGraph_t)1;
  if (nodes) *nodes = NULL;
  if (edges) *edges = NULL;
  if (count) *count = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  extern const long *null_gpu_counters(void);
  null_gpu_count(GRAPH_NODES, -null_gpu_counters()[GRAPH_NODES]);
  capturing = 1;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  capturing = 0;
  *graph = (cudaGraph_t)1;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) { return cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
  extern const long *null_gpu_counters(void);
  *count = null_gpu_counters()[GRAPH_NODES];
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
  *executable = (cudaGraphExec_t)1;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  null_gpu_count(GRAPH_LAUNCHES, 1);
  return alive();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return cudaSuccess; }
cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char *path, unsigned flags) { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *event) {
  *event = handle();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  *event = handle();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
  *ms = 1.0f;
  return cudaSuccess;
}
