/* cuBLAS, cuDNN and NCCL: handles, workspaces and plans. Their compute functions are in the generated stubs. */
#include "null_gpu.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HANDLE = 256, WORKSPACE = 8 << 20 };

static int make(void **handle) {
  *handle = calloc(1, HANDLE);
  return 0;
}

/* ---- cuBLAS and cuBLASLt ---- */

int cublasCreate_v2(void **handle) {
  int status = null_gpu_status("cublasCreate_v2");
  return status ? status : make(handle);
}
int cublasDestroy_v2(void *handle) { return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return 0; }
int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes) { return 0; }
int cublasSetMathMode(void *handle, int mode) { return 0; }
int cublasGetMathMode(void *handle, int *mode) { return *mode = 0; }
int cublasSetPointerMode_v2(void *handle, int mode) { return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { return *mode = 0; }
int cublasLtMatmulDescCreate(void **description, int compute, int scale) { return make(description); }
int cublasLtMatmulDescDestroy(void *description) { return free(description), 0; }
int cublasLtMatmulDescSetAttribute(void *description, int name, const void *value, size_t bytes) { return 0; }
int cublasLtMatmulPreferenceCreate(void **preference) { return make(preference); }
int cublasLtMatmulPreferenceDestroy(void *preference) { return free(preference), 0; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int name, const void *value, size_t bytes) { return 0; }
int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  return make(layout);
}
int cublasLtMatrixLayoutDestroy(void *layout) { return free(layout), 0; }
int cublasLtMatrixLayoutSetAttribute(void *layout, int name, const void *value, size_t bytes) { return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *description, void *a, void *b, void *c, void *d,
                                   void *preference, int wanted, void *results, int *found) {
  memset(results, 0, 96); /* sizeof(cublasLtMatmulHeuristicResult_t) */
  *found = 1;
  return 0;
}

/* ---- cuDNN ---- */

int cudnnCreate(void **handle) {
  int status = null_gpu_status("cudnnCreate");
  return status ? status : make(handle);
}
int cudnnSetStream(void *handle, void *stream) { return 0; }
int cudnnGetStream(void *handle, void **stream) { return *stream = NULL, 0; }

typedef struct { /* cudnnConvolution*AlgoPerf_t */
  int algorithm, status;
  float ms;
  size_t workspace;
  int determinism, math, reserved[3];
} Performance;
static int choose(Performance *results, int *found) {
  results[0] = (Performance){.algorithm = 1, .ms = 1.0f, .workspace = WORKSPACE, .math = 1};
  *found = 1;
  return 0;
}
#define SEARCH(name) \
  int name(void *handle, void *a, void *b, void *c, void *d, int wanted, int *found, Performance *results) { \
    return choose(results, found); \
  }
SEARCH(cudnnGetConvolutionForwardAlgorithm_v7)
SEARCH(cudnnGetConvolutionBackwardDataAlgorithm_v7)
SEARCH(cudnnGetConvolutionBackwardFilterAlgorithm_v7)

#define CONVOLUTION_WORKSPACE(name) \
  int name(void *handle, void *a, void *b, void *c, void *d, int algorithm, size_t *bytes) { \
    return *bytes = WORKSPACE, 0; \
  }
CONVOLUTION_WORKSPACE(cudnnGetConvolutionForwardWorkspaceSize)
CONVOLUTION_WORKSPACE(cudnnGetConvolutionBackwardDataWorkspaceSize)
CONVOLUTION_WORKSPACE(cudnnGetConvolutionBackwardFilterWorkspaceSize)

int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *handle, int mode, int ops, void *x, void *z,
                                                             void *y, void *norm, void *activation, size_t *bytes) {
  return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *handle, int mode, int ops, void *x, void *y, void *dy,
                                                      void *dz, void *dx, void *norm, void *activation,
                                                      size_t *bytes) {
  return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *handle, int mode, int ops, void *activation, void *x,
                                                         size_t *bytes) {
  return *bytes = 0, 0;
}

/* The graph interface: one engine, one plan, no workspace. Descriptors hold nothing. */
enum { TYPE_INT64 = 3, TYPE_HANDLE = 0, TYPE_DESCRIPTOR = 15 };
int cudnnBackendCreateDescriptor(int type, void **descriptor) { return make(descriptor); }
int cudnnBackendDestroyDescriptor(void *descriptor) { return free(descriptor), 0; }
int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *values) { return 0; }
int cudnnBackendFinalize(void *descriptor) { return 0; }
int cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *found, void *values) {
  int is_known = type == TYPE_DESCRIPTOR || type == TYPE_INT64 || type == TYPE_HANDLE;
  if (found) *found = is_known;
  if (values && wanted > 0 && (type == TYPE_INT64 || type == TYPE_HANDLE)) *(int64_t *)values = 0;
  return 0;
}

/* ---- NCCL: each process is alone, so a gathered tensor is its own, as often as there are processes ---- */

typedef struct { int size; } Communicator;
static int join(void **communicator, int size) {
  Communicator *made = calloc(1, HANDLE);
  made->size = size;
  *communicator = made;
  return 0;
}
typedef struct { char bytes[128]; } Id; /* ncclUniqueId, passed by value */
int ncclGetUniqueId(Id *id) { return memset(id, 1, sizeof *id), 0; }
int ncclCommInitRank(void **communicator, int size, Id id, int rank) { return join(communicator, size); }
int ncclCommInitRankConfig(void **communicator, int size, Id id, int rank, void *config) {
  return join(communicator, size);
}
int ncclCommInitRankScalable(void **communicator, int size, int rank, int ids, Id *id, void *config) {
  return join(communicator, size);
}
int ncclCommGetAsyncError(void *communicator, int *error) { return *error = 0; }
int ncclCommCount(void *communicator, int *count) { return *count = ((Communicator *)communicator)->size, 0; }
int ncclCommDestroy(void *communicator) { return 0; }
int ncclCommAbort(void *communicator) { return 0; }
int ncclCommFinalize(void *communicator) { return 0; }
int ncclCommRegister(void *communicator, void *buffer, size_t bytes, void **handle) { return make(handle); }
int ncclCommDeregister(void *communicator, void *handle) { return free(handle), 0; }
int ncclGroupStart(void) { return 0; }
int ncclGroupEnd(void) { return 0; }
int ncclAllGather(const void *from, void *to, size_t count, int type, void *communicator, void *stream) {
  static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1}; /* of ncclDataType_t */
  size_t bytes = count * sizes[type];
  for (int rank = 0; rank < ((Communicator *)communicator)->size; rank++)
    if ((char *)to + rank * bytes != from) memcpy((char *)to + rank * bytes, from, bytes);
  return null_gpu_library("ncclAllGather");
}
