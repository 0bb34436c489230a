/* NVML (libnvidia-ml.so.1): the number, names and memory of the cards, for Ray, PyTorch and the search. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long Bytes;
enum { NOT_SUPPORTED = 3 };

static double setting(const char *name, double otherwise) {
  const char *text = getenv(name);
  return text && *text ? atof(text) : otherwise;
}
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int error) { return "an error of the null GPU"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return snprintf(text, size, "580.0"), 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = 13000, 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = (unsigned)setting("NULL_GPU_DEVICES", 1), 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return *device = (void *)(size_t)(index + 1), 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *text, void **device) { return *device = (void *)1, 0; }
int nvmlDeviceGetHandleByUUID(const char *text, void **device) { return *device = (void *)1, 0; }
int nvmlDeviceGetIndex(void *device, unsigned *index) { return *index = (unsigned)(size_t)device - 1, 0; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) { return snprintf(text, size, "Null GPU"), 0; }
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  return snprintf(text, size, "GPU-%08zx-0000-0000-0000-000000000000", (size_t)device), 0;
}
int nvmlDeviceGetPciInfo_v3(void *device, void *information) { return memset(information, 0, 68), 0; }
int nvmlDeviceGetMemoryInfo(void *device, Bytes *total_free_used) {
  Bytes total = (Bytes)(setting("NULL_GPU_GIB", 80) * (1 << 30));
  total_free_used[0] = total_free_used[1] = total, total_free_used[2] = 0;
  return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) { return NOT_SUPPORTED; }
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { return *count = 0; }
int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { return rates[0] = rates[1] = 0; }
int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, void *found) { return *count = 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *found) { return *count = 0; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, void *found) { return *count = 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { return *milliwatts = 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { return *celsius = 30, 0; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type) { return NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned link, void *found) { return NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void *device, void *found) { return NOT_SUPPORTED; }
