// What llama.cpp would allocate per device, asked of libllama itself on a machine without GPU.
//
// Registers devices that look like CUDA's to the scheduler (or like a plain remote device) and
// compute nothing; loads a model's header without allocating; prints the memory breakdown.
//
//   stdin, one line each:  PATH KIND DEVICES LAYERS SPLIT CPU_MOE KV_ON_GPU CONTEXT UBATCH N_SEQ
//                          UNIFIED FLASH K_TYPE V_TYPE REPACK
//   stdout, one line each: RAM weights, repack, context, compute, and three figures per device
//
// Built and run by bench/device_memory.py --ask. Behaviour copied in meaning, not in text, from
// ggml/src/ggml-cuda/ggml-cuda.cu: alignment, padding, offloaded products, f16 copies of a
// quantized cache for flash attention.

#include "ggml-alloc.h"
#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "llama.h"

#include "llama-ext.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

static bool cuda_like = true;
static const int N_DEVICES = 4;

// ---- buffers

static const char * device_buffer_name(ggml_backend_buffer_type_t buft);

// States are allocated even where nothing is: the buffer must name its device's type, which
// stands somewhere in it (releases differ in what stands before).
static ggml_backend_buffer_t on_heap(ggml_backend_buffer_type_t type, size_t size) {
    void * memory = aligned_alloc(128, (size + 255) / 128 * 128);
    ggml_backend_buffer_t buffer = ggml_backend_cpu_buffer_from_ptr(memory, size);
    const ggml_backend_buffer_type_t was = ggml_backend_buffer_get_type(buffer);
    auto ** slots = (ggml_backend_buffer_type_t *) buffer;
    while (*slots != was) slots++;
    *slots = type;
    return buffer;
}

static size_t device_alignment(ggml_backend_buffer_type_t) { return 128; }

static size_t device_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    size_t size = ggml_nbytes(tensor);
    if (!cuda_like) {
        return size;
    }
    if (tensor->op == GGML_OP_FLASH_ATTN_EXT && tensor->src[0]->ne[1] > 2) {
        const ggml_tensor * k = tensor->src[1], * v = tensor->src[2];
        const bool view = v->view_src && (v->view_src == k || v->view_src == k->view_src) && v->view_offs == k->view_offs;
        if (k->type != GGML_TYPE_F16) size = GGML_PAD(size, 128) + 2 * ggml_nelements(k);
        if (v->type != GGML_TYPE_F16 && !view) size = GGML_PAD(size, 128) + 2 * ggml_nelements(v);
    }
    if (ggml_is_quantized(tensor->type) && tensor->ne[0] % 512) {
        size += ggml_row_size(tensor->type, 512 - tensor->ne[0] % 512);
    }
    return size;
}

static const char * host_buffer_name(ggml_backend_buffer_type_t) { return "FAKE_Host"; }
static size_t host_alignment(ggml_backend_buffer_type_t) { return 64; }
static bool is_host(ggml_backend_buffer_type_t) { return true; }

// ---- backend

static const char * backend_name(ggml_backend_t) { return "FAKE"; }
static void backend_free(ggml_backend_t backend) { delete backend; }
static void nothing(ggml_backend_t) {}
static ggml_status compute(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_FAILED; }
static void record(ggml_backend_t, ggml_backend_event_t) {}

// ---- devices

// A buffer type as this library lays it out: version 3 of the interface has two more functions
// than the header that this is built with (version 2); both are optional.
struct BufferType {
    void * slots[16];
    ggml_backend_buffer_type_t it() { return (ggml_backend_buffer_type_t) slots; }
    void fill(int version, ggml_backend_dev_t device, const char * (*name)(ggml_backend_buffer_type_t),
              size_t (*alignment)(ggml_backend_buffer_type_t),
              size_t (*alloc_size)(ggml_backend_buffer_type_t, const ggml_tensor *),
              bool (*host)(ggml_backend_buffer_type_t)) {
        const bool more = version >= 3;
        slots[0] = (void *) name;
        slots[1] = (void *) on_heap;
        slots[more ? 3 : 2] = (void *) alignment;
        slots[more ? 5 : 4] = (void *) alloc_size;
        slots[more ? 7 : 5] = (void *) host;
        slots[more ? 8 : 6] = device;
    }
};

struct Device {
    ggml_backend_device device;
    BufferType memory, host;
    char name[16];
};
static Device devices[N_DEVICES];
static ggml_backend_reg reg;

static const char * device_buffer_name(ggml_backend_buffer_type_t buft) {
    for (auto & d : devices) if (d.memory.it() == buft) return d.name;
    return "?";
}

static const char * device_name(ggml_backend_dev_t dev) { return ((Device *) dev->context)->name; }
static void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = (size_t) 1 << 40; }
static enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
static ggml_backend_buffer_type_t device_buffer(ggml_backend_dev_t dev) { return ((Device *) dev->context)->memory.it(); }
static ggml_backend_buffer_type_t device_host(ggml_backend_dev_t dev) {
    return cuda_like ? ((Device *) dev->context)->host.it() : nullptr;
}

static void device_props(ggml_backend_dev_t dev, ggml_backend_dev_props * props) {
    props->name = props->description = device_name(dev);
    props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
    device_memory(dev, &props->memory_free, &props->memory_total);
    props->caps.async = props->caps.events = props->caps.host_buffer = cuda_like;
    props->caps.buffer_from_host_ptr = false;
    props->caps.mmap_support = true;
}

static ggml_backend_t device_init(ggml_backend_dev_t dev, const char *) {
    auto * backend = new ggml_backend{};
    static ggml_guid guid = { 1 };
    backend->guid = &guid;
    backend->device = dev;
    backend->iface.get_name = backend_name;
    backend->iface.free = backend_free;
    backend->iface.graph_compute = compute;
    if (cuda_like) backend->iface.synchronize = nothing;
    backend->iface.event_record = record;
    backend->iface.event_wait = record;
    return backend;
}

static bool supports_op(ggml_backend_dev_t, const ggml_tensor *) { return true; }
static bool supports_buft(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) { return buft == device_buffer(dev); }

static int64_t rows_at_once(const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_GET_ROWS:   return 0;
        case GGML_OP_MUL_MAT:    return op->ne[1];
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE:       return op->ne[2];
        default:                 return ggml_nrows(op);
    }
}

static bool offload_op(ggml_backend_dev_t, const ggml_tensor * op) { return cuda_like && rows_at_once(op) >= 32; }
static ggml_backend_event_t event_new(ggml_backend_dev_t dev) { return new ggml_backend_event{ dev, nullptr }; }
static void event_free(ggml_backend_dev_t, ggml_backend_event_t event) { delete event; }
static void event_wait(ggml_backend_dev_t, ggml_backend_event_t) {}

static const char * reg_name(ggml_backend_reg_t) { return "FAKE"; }
static size_t reg_count(ggml_backend_reg_t) { return N_DEVICES; }
static ggml_backend_dev_t reg_get(ggml_backend_reg_t, size_t i) { return &devices[i].device; }

static void set_up() {
    auto * cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    reg.api_version = ggml_backend_dev_backend_reg(cpu)->api_version;
    reg.iface.get_name = reg_name;
    reg.iface.get_device_count = reg_count;
    reg.iface.get_device = reg_get;
    for (int i = 0; i < N_DEVICES; i++) {
        Device & d = devices[i];
        snprintf(d.name, sizeof d.name, "FAKE%d", i);
        d.device.reg = &reg;
        d.device.context = &d;
        auto & f = d.device.iface;
        f.get_name = f.get_description = device_name;
        f.get_memory = device_memory;
        f.get_type = device_type;
        f.get_props = device_props;
        f.init_backend = device_init;
        f.get_buffer_type = device_buffer;
        f.get_host_buffer_type = device_host;
        f.supports_op = supports_op;
        f.supports_buft = supports_buft;
        f.offload_op = offload_op;
        f.event_new = event_new;
        f.event_free = event_free;
        f.event_synchronize = event_wait;
        d.memory.fill(reg.api_version, &d.device, device_buffer_name, device_alignment, device_alloc_size, nullptr);
        d.host.fill(reg.api_version, &d.device, host_buffer_name, host_alignment, nullptr, is_host);
    }
    ggml_backend_register(&reg);
}

// ---- one question

// The parameters travel by value, and releases add fields at the end of them: room for more.
template <typename T> struct Roomy { T params; char more[256]; };
template <typename T> static Roomy<T> defaults(T (*made)()) { return ((Roomy<T> (*)()) made)(); }

// The switches of a context lie together (none of the fields before them differs between the
// releases that this was built against): found by their defaults.
enum Switch { EMBEDDINGS, OFFLOAD_KQV, NO_PERF, OP_OFFLOAD, SWA_FULL, KV_UNIFIED };
static char * switches(Roomy<llama_context_params> & roomy) {
    static const char usual[] = { 0, 1, 1, 1, 1, 0 };
    char * start = (char *) &roomy;
    for (size_t at = offsetof(llama_context_params, type_v); at < sizeof(llama_context_params); at++) {
        if (memcmp(start + at, usual, sizeof usual) == 0) return start + at;
    }
    fprintf(stderr, "the switches of llama_context_params were not found\n");
    exit(1);
}

static ggml_type type_named(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        if (ggml_type_name((ggml_type) i) && strcasecmp(ggml_type_name((ggml_type) i), name.c_str()) == 0) return (ggml_type) i;
    }
    return GGML_TYPE_F16;
}

const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

static void answer(const std::string & line) {
    std::istringstream in(line);
    std::string path, kind, split, k_type, v_type;
    int n_devices, layers, cpu_moe, kv_on_gpu, unified, flash, repack;
    uint32_t context, ubatch, n_seq;
    in >> path >> kind >> n_devices >> layers >> split >> cpu_moe >> kv_on_gpu >> context >> ubatch >> n_seq >> unified >> flash >> k_type >> v_type >> repack;
    cuda_like = kind == "cuda";

    std::vector<ggml_backend_dev_t> used;
    for (int i = 0; i < n_devices; i++) used.push_back(&devices[i].device);
    used.push_back(nullptr);
    std::vector<float> shares(128, 0.0f);
    std::istringstream parts(split);
    std::string part;
    for (int i = 0; std::getline(parts, part, ','); i++) shares[i] = atof(part.c_str());
    std::vector<std::string> patterns;
    std::vector<llama_model_tensor_buft_override> overrides;
    for (int i = 0; i < cpu_moe; i++) patterns.push_back("blk\\." + std::to_string(i) + "\\.ffn_(up|down|gate|gate_up)_(ch|)exps");
    for (auto & p : patterns) overrides.push_back({ p.c_str(), ggml_backend_cpu_buffer_type() });
    overrides.push_back({ nullptr, nullptr });

    auto roomy_model = defaults(&llama_model_default_params);
    llama_model_params & mp = roomy_model.params;
    mp.devices = used.data();
    mp.n_gpu_layers = layers;
    mp.tensor_split = shares.data();
    if (cpu_moe) mp.tensor_buft_overrides = overrides.data();
    mp.no_alloc = true;
    mp.load_mode = LLAMA_LOAD_MODE_NONE;
    mp.use_extra_bufts = repack;
    using Load = llama_model * (*)(const char *, Roomy<llama_model_params>);
    llama_model * model = ((Load) &llama_model_load_from_file)(path.c_str(), roomy_model);
    if (!model) { printf("FAILED model\n"); fflush(stdout); return; }
    auto roomy = defaults(&llama_context_default_params);
    llama_context_params & cp = roomy.params;
    cp.n_ctx = context;
    cp.n_batch = 2048;
    cp.n_ubatch = ubatch;
    cp.n_seq_max = n_seq;
    cp.n_outputs_max = n_seq;
    char * on = switches(roomy);
    on[KV_UNIFIED] = unified;
    on[SWA_FULL] = false;  // as common_params has it
    on[OFFLOAD_KQV] = kv_on_gpu;
    cp.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    cp.type_k = type_named(k_type);
    cp.type_v = type_named(v_type);
    using Init = llama_context * (*)(llama_model *, Roomy<llama_context_params>);
    llama_context * ctx = ((Init) &llama_init_from_model)(model, roomy);
    if (!ctx) { printf("FAILED context\n"); fflush(stdout); llama_model_free(model); return; }

    // Asked without mapping, for only so nothing is allocated; but llama.cpp maps, and two
    // tensors of one name in one buffer (a tied head that was asked for before the embedding:
    // Gemma 4) are then the same pages.
    std::map<std::pair<std::string, ggml_backend_buffer_t>, int> met;
    size_t twice = 0;
    for (const auto & [tensor_name, tensor] : llama_internal_get_tensor_map(model)) {
        if (met[{ tensor_name, tensor->buffer }]++ && ggml_backend_buffer_is_host(tensor->buffer)) twice += ggml_nbytes(tensor);
    }

    size_t ram[4] = { 0, 0, 0, 0 };
    std::vector<size_t> gpu(3 * n_devices, 0);
    for (const auto & [buft, mb] : llama_get_memory_breakdown(ctx)) {
        const std::string name = ggml_backend_buft_name(buft);
        int index = -1;
        for (int i = 0; i < n_devices; i++) if (buft == devices[i].memory.it()) index = i;
        if (index >= 0) {
            gpu[3 * index] += mb.model; gpu[3 * index + 1] += mb.context; gpu[3 * index + 2] += mb.compute;
        } else {
            ram[name.find("REPACK") != std::string::npos ? 1 : 0] += mb.model;
            ram[2] += mb.context; ram[3] += mb.compute;
        }
    }
    ram[0] -= twice;
    printf("%zu %zu %zu %zu", ram[0], ram[1], ram[2], ram[3]);
    for (size_t n : gpu) printf(" %zu", n);
    printf("\n");
    fflush(stdout);
    llama_free(ctx);
    llama_model_free(model);
}

static void quiet(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR || getenv("POOL_ORACLE_LOG")) fputs(text, stderr);
}

int main() {
    llama_log_set(quiet, nullptr);
    set_up();
    llama_backend_init();
    for (std::string line; std::getline(std::cin, line);) answer(line);
    fflush(stdout);
    _Exit(0);
}
