// What llama.cpp's own library answers: llama_model_quantize with dry_run, for every mixture,
// without and with an importance matrix. Prints the library's log; make_oracle.py reads it.
//   g++ -O1 -I$L/include -I$L/ggml/include oracle.cpp -o oracle -L$B/bin -lllama -lggml -lggml-base
// L: llama.cpp's source; B: its build (cmake target `llama`). Usage: oracle IN.gguf 7 15 ...
#include "llama.h"
#include <cstdio>
#include <cstdlib>

int main(int argc, char ** argv) {
    llama_log_set([](ggml_log_level, const char * text, void *) { fputs(text, stdout); }, nullptr);
    float one = 1;
    llama_model_imatrix_data matrix[2] = {{"none", &one, 1}, {nullptr, nullptr, 0}};
    for (int i = 2; i < argc; i++) {
        for (int with = 0; with < 2; with++) {
            auto params = llama_model_quantize_default_params();
            params.ftype = (llama_ftype) atoi(argv[i]);
            params.dry_run = true;
            params.allow_requantize = true;
            params.nthread = 1;
            params.imatrix = with ? matrix : nullptr;
            printf("\n@@ %s %d\n", argv[i], with);
            printf("\n@@rc %u\n", llama_model_quantize(argv[1], "/dev/null", &params));
        }
    }
}
