/* The CUDA driver (libcuda.so.1), as far as PyTorch's allocator and Triton call it. */
#include "null_gpu.h"
#include <cuda.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char name[256]; } Function; /* behind CUfunction; Triton's kernels */
typedef struct { size_t bytes; int device; } Memory; /* behind CUmemGenericAllocationHandle */

static CUcontext context = (CUcontext)16;
static CUresult text(const char **to, const char *from) { return *to = from, CUDA_SUCCESS; }

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **found) { return text(found, "an error of the null GPU"); }
CUresult cuGetErrorName(CUresult error, const char **found) { return text(found, "CUDA_ERROR_OF_THE_NULL_GPU"); }
CUresult cuDriverGetVersion(int *version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int index) { return *device = index, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { return *count = null_gpu_devices(), CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  switch (attribute) {
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = null_gpu_capability() / 10; break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = null_gpu_capability() % 10; break;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 232448; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = 233472; break;
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *value = 65536; break;
  default: *value = 1;
  }
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *found) { return *found = context, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext wanted) { return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext wanted) { return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *found) { return *found = context, CUDA_SUCCESS; }
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) { return *value = 0, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *found, CUdevice device) { return *found = context, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  return *flags = 0, *active = 1, CUDA_SUCCESS;
}

/* ---- modules and kernels ---- */

CUresult cuModuleLoadData(CUmodule *module, const void *image) { return *module = calloc(1, 8), CUDA_SUCCESS; }
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options,
                            void **values) {
  return *module = calloc(1, 8), CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  Function *made = calloc(1, sizeof *made);
  strncpy(made->name, name, sizeof made->name - 1);
  return *function = (CUfunction)made, CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  *value = attribute == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32
           : attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int size, size_t bytes) {
  return *blocks = 4, CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveClusters(int *clusters, CUfunction function, const CUlaunchConfig *config) {
  return *clusters = 16, CUDA_SUCCESS;
}
static CUresult launch(CUfunction function) { return null_gpu_launch(JIT_KERNELS, ((Function *)function)->name); }
CUresult cuLaunchKernel(CUfunction function, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned f,
                        unsigned bytes, CUstream stream, void **arguments, void **extra) {
  return launch(function);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **arguments, void **extra) {
  return launch(function);
}
CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e,
                                   unsigned f, unsigned bytes, CUstream stream, void **arguments) {
  return launch(function);
}

/* ---- memory: expandable segments map physical memory into reserved addresses ---- */

CUresult cuMemGetInfo(size_t *available, size_t *total) {
  return *total = null_gpu_memory(), *available = *total - null_gpu_used(0), CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
  if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) *(CUdeviceptr *)value = address;
  else *(int *)value = CU_MEMORYTYPE_DEVICE;
  return CUDA_SUCCESS;
}
CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags flags) {
  return *bytes = (size_t)2 << 20, CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
  if (null_gpu_is_dead()) return CUDA_ERROR_ILLEGAL_ADDRESS;
  if (!null_gpu_take(properties->location.id, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  Memory *made = malloc(sizeof *made);
  *made = (Memory){bytes, properties->location.id};
  null_gpu_count(ALLOCATIONS, 1);
  return *handle = (CUmemGenericAllocationHandle)(uintptr_t)made, CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Memory *memory = (Memory *)(uintptr_t)handle;
  null_gpu_give_back(memory->device, memory->bytes);
  return free(memory), CUDA_SUCCESS;
}
/* The device is not known here: PyTorch reserves an address range before it creates the first memory. */
CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags) {
  extern int cudaGetDevice(int *);
  int device = 0;
  cudaGetDevice(&device);
  *address = (CUdeviceptr)(uintptr_t)null_gpu_reserve(device, bytes);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  return null_gpu_free((void *)(uintptr_t)address, bytes), CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  return null_gpu_discard((void *)(uintptr_t)address, bytes), CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
  return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) { return CUDA_SUCCESS; }
